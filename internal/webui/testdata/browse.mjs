// Reads a page as a person does: logs in, opens a job, waits for its curve, and
// sees the live part and the login of an ended session work. Prints what it saw
// as JSON. Driven by TestABrowserSeesTheCurveAndTheLivePart.
//
//	node browse.mjs <folder with node_modules> <chromium> <profile folder> <base URL> <screenshots folder>
//
// The token comes on standard input: arguments can be read by others.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [modules, executablePath, profile, base, shots] = process.argv.slice(2);
const token = readFileSync(0, "utf8");
const { chromium } = createRequire(modules + "/")("playwright-core");

const context = await chromium.launchPersistentContext(profile, {
	executablePath, headless: true, viewport: { width: 1400, height: 900 }, colorScheme: process.env.COLOR_SCHEME || "light",
	args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const seen = { faults: [], requests: [] };
try {
	const page = await context.newPage();
	page.setDefaultTimeout(20_000);
	page.on("pageerror", (fault) => seen.faults.push(String(fault)));
	page.on("console", (message) => { if (message.type() === "error") seen.faults.push(message.text()); });
	page.on("request", (request) => seen.requests.push(request.url()));

	await page.goto(base + "/jobs/vision/train-7");
	seen.login = page.url();
	await page.screenshot({ path: shots + "/login.png" });
	await page.fill("#token", token);
	await page.click("button.primary");
	await page.waitForURL(base + "/jobs/vision/train-7");

	await page.waitForSelector(".plots figure canvas");
	seen.canvases = await page.locator(".plots figure canvas").count();
	seen.text = await page.innerText("main");
	// A canvas on which nothing was drawn is as empty as a missing one.
	seen.drawn = await page.evaluate(() => {
		const canvas = document.querySelector(".plots canvas");
		return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v > 0);
	});
	await page.screenshot({ path: shots + "/job.png", fullPage: true });

	// The live part is read again: the mark set on it is gone with the old one.
	await page.evaluate(() => { document.querySelector("#live").dataset.mark = "old"; document.querySelector("#more").dataset.mark = "old"; });
	await page.waitForSelector("#live:not([data-mark])");
	await page.waitForSelector("#more:not([data-mark])");
	seen.livesBeside = await page.locator("#live").count() + await page.locator("#more").count();
	seen.canvasesAfter = await page.locator(".plots figure canvas").count();

	for (const [name, path] of [["overview", "/"], ["queued", "/jobs/text/waits"], ["model", "/models/vision/tiny"], ["endpoint", "/endpoints/vision/chat"], ["cost", "/cost"], ["pools", "/pools"]]) {
		await page.goto(base + path);
		if (name === "endpoint") await page.waitForSelector(".plots figure canvas");
		await page.screenshot({ path: shots + "/" + name + ".png", fullPage: true });
	}

	// Scripts can't read the session.
	seen.cookie = await page.evaluate(() => document.cookie);

	// The live part of a page whose session has ended sends the reader to log in.
	await page.goto(base + "/");
	await context.clearCookies();
	seen.faultsBeforeEnd = seen.faults.length;
	await page.waitForURL(base + "/login");
	seen.end = page.url();
} finally {
	await context.close();
	console.log(JSON.stringify(seen));
}
