// Puts live uPlots in the place of the plain ones, and keeps htmx from asking
// while nobody looks. A page works without any of this.
"use strict";

const every = 3000; // ms between two reads of a live plot

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// axis is how both axes of a plot look.
const axis = (size, values) => ({
	size, values,
	stroke: color("--dim"),
	font: "11px system-ui",
	grid: { stroke: color("--line"), width: 1 },
	ticks: { show: false },
});

const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

const short = (v) => (v == null ? "" : Number(v.toPrecision(4)).toString());

function options(plots, series, width) {
	const points = plots.style === "points", timed = plots.axis === "time";
	return {
		width, height: 180, legend: { show: false }, cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
		scales: { x: { time: false } },
		axes: [{ ...axis(26, (u, ticks) => ticks.map(timed ? clock : String)), space: 70 }, axis(46, (u, ticks) => ticks.map(short))],
		series: [{}, {
			label: series.name, stroke: color("--held"), width: 1.5, spanGaps: true,
			paths: points ? () => null : undefined,
			points: { show: points || plots.x.length < 40, size: 4, fill: color("--held") },
		}],
	};
}

// draw makes or feeds the plot of each series; one that the page doesn't know
// yet gets its figure.
function draw(box, drawn, plots) {
	for (const series of plots.series) {
		const data = [plots.x, series.values];
		const before = drawn.get(series.name);
		if (before) {
			before.plot.setData(data);
			before.caption.textContent = latest(series);
			continue;
		}
		box.querySelector("p")?.remove(); // which says that there is nothing yet
		const figure = figureOf(box, series.name);
		figure.querySelector("svg.plain")?.remove();
		const width = figure.clientWidth - 24;
		const caption = figure.querySelector("figcaption .n");
		caption.textContent = latest(series);
		const plot = new uPlot(options(plots, series, width), data, figure);
		plot.over.addEventListener("mousemove", () => { caption.textContent = pointed(plot, plots) || latest(series); });
		plot.over.addEventListener("mouseleave", () => { caption.textContent = latest(series); });
		drawn.set(series.name, { plot, caption, figure });
	}
}

const latest = (series) => short(series.values.findLast((v) => v != null)) || "–";

// pointed is the value under the cursor and where it is.
function pointed(plot, plots) {
	const i = plot.cursor.idx;
	if (i == null || plot.data[1][i] == null) return "";
	const x = plot.data[0][i];
	const at = plots.axis === "time" ? clock(x) + " UTC" : "step " + x;
	return short(plot.data[1][i]) + " at " + at;
}

function figureOf(box, name) {
	for (const figure of box.querySelectorAll("figure")) {
		if (figure.querySelector("b").textContent === name) return figure;
	}
	const figure = document.createElement("figure"), caption = document.createElement("figcaption");
	const title = document.createElement("b"), value = document.createElement("span");
	title.textContent = name;
	value.className = "n";
	caption.append(title, " ", value);
	figure.append(caption);
	box.append(figure);
	return figure;
}

async function follow(box) {
	const drawn = new Map();
	addEventListener("resize", () => {
		for (const { plot, figure } of drawn.values()) plot.setSize({ width: figure.clientWidth - 24, height: 180 });
	});
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
	for (let live = true; live;) {
		if (!document.hidden) {
			try {
				// A session that ended answers with a redirect, which is no plot.
				const answer = await fetch(box.dataset.plots, { redirect: "manual" });
				if (!answer.ok) return;
				const plots = await answer.json();
				draw(box, drawn, plots);
				live = plots.live;
			} catch {
				// The server is away for a moment: the plot stays, the next read may work.
			}
		}
		await new Promise((done) => setTimeout(done, every));
	}
}

// atEnd scrolls logs to their end, where the news are.
function atEnd() {
	for (const log of document.querySelectorAll("pre.log")) log.scrollTop = log.scrollHeight;
}

document.querySelectorAll("[data-plots]").forEach(follow);
atEnd();
document.body.addEventListener("htmx:afterSettle", atEnd);
document.body.addEventListener("htmx:beforeRequest", (event) => {
	// A swap would take away what the reader has marked, or moves a log that is being read.
	const busy = !getSelection().isCollapsed || document.querySelector("pre.log:hover, pre.log:focus");
	if (document.hidden || busy) event.preventDefault();
});
