package main

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	v1 "github.com/penstock/penstock/api/v1"
)

// dot is one point of a curve.
type dot struct{ X, Y float64 }

// The plots' size, in pixels, and the space around them.
const (
	width, height = 720.0, 260.0
	left, right   = 48.0, 12.0
	top, bottom   = 14.0, 32.0
)

// frame maps values to a plot's pixels.
type frame struct{ xs, ys [2]float64 }

func (f frame) x(v float64) float64 {
	return left + (v-f.xs[0])/max(f.xs[1]-f.xs[0], 1e-9)*(width-left-right)
}

func (f frame) y(v float64) float64 {
	return height - bottom - (v-f.ys[0])/max(f.ys[1]-f.ys[0], 1e-9)*(height-top-bottom)
}

// canvas collects an SVG's elements. Only numbers and this file's own words go
// into it.
type canvas struct{ strings.Builder }

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

func (c *canvas) done(title string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">%s</svg>`, width, height, title, c.String())) //nolint:gosec // see canvas
}

func (c *canvas) axes(f frame, unit string) {
	for i := range 5 {
		v := f.ys[0] + (f.ys[1]-f.ys[0])*float64(i)/4
		c.add(`<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%[3]g"/><text x="%g" y="%.1f" text-anchor="end">%.3g</text>`, left, width-right, f.y(v), left-6, f.y(v)+4, v)
	}
	c.add(`<text x="%g" y="%g" text-anchor="end">%s</text>`, width-right, height-4, unit)
}

// lossCurve draws both attempts' losses, the kill and the resume.
func (r report) lossCurve() template.HTML {
	f := frame{ys: [2]float64{math.Inf(1), math.Inf(-1)}}
	for _, part := range r.Curve {
		for _, d := range part {
			f.xs[1] = max(f.xs[1], d.X)
			f.ys = [2]float64{min(f.ys[0], d.Y), max(f.ys[1], d.Y)}
		}
	}
	if f.xs[1] == 0 {
		return ""
	}
	var c canvas
	c.axes(f, "step")
	for i, part := range r.Curve {
		var path strings.Builder
		for j, d := range part {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], f.x(d.X), f.y(d.Y))
		}
		c.add(`<path class="attempt%d" d="%s"/>`, i+1, path.String())
	}
	killed, from := f.x(float64(r.Kill.Step)), f.x(float64(r.Kill.From))
	c.add(`<line class="kill" x1="%.1f" x2="%[1]g" y1="%g" y2="%g"/><text class="kill" x="%.1f" y="%g">worker killed after step %d</text>`, killed, top, height-bottom, killed+5, top+10, r.Kill.Step)
	c.add(`<line class="resume" x1="%.1f" x2="%[1]g" y1="%g" y2="%g"/><text class="resume" x="%.1f" y="%g">resumed whole from step %d, %.1f s later</text>`, from, top, height-bottom, killed+5, top+26, r.Kill.From, r.Kill.Away.Seconds())
	return c.done("loss over steps, with the kill and the resume")
}

// histogram draws how many durations fall into each of 24 equal bins.
func histogram(d times) template.HTML {
	if len(d) == 0 {
		return ""
	}
	const n = 24
	var share [n]float64
	longest, most := max(d[len(d)-1], time.Microsecond), 0.0
	for _, v := range d {
		i := min(int(float64(v)/float64(longest)*n), n-1)
		share[i]++
		most = max(most, share[i])
	}
	f := frame{xs: [2]float64{0, n}, ys: [2]float64{0, most}}
	var c canvas
	c.axes(f, "ms")
	for i, v := range share {
		c.add(`<rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, f.x(float64(i))+1, f.y(v), f.x(1)-f.x(0)-2, f.y(0)-f.y(v))
		if i%4 == 0 {
			c.add(`<text x="%.1f" y="%g">%.1f</text>`, f.x(float64(i)), height-bottom+16, float64(longest.Microseconds())/1000*float64(i)/n)
		}
	}
	return c.done("how many took how long")
}

// bins draws a signal's shares in the reference and now, side by side.
func bins(s v1.SignalStatus) template.HTML {
	share := func(counts []int64) []float64 {
		total, out := 0.0, make([]float64, len(counts))
		for _, n := range counts {
			total += float64(n)
		}
		for i, n := range counts {
			out[i] = 100 * float64(n) / max(total, 1)
		}
		return out
	}
	before, now := share(s.Reference), share(s.Current)
	f := frame{xs: [2]float64{0, float64(max(len(before), 1))}, ys: [2]float64{0, 100}}
	var c canvas
	c.axes(f, "upper edge of the bin")
	wide := (f.x(1) - f.x(0)) / 2
	for i := range before {
		edge := "above"
		if i < len(s.Bins) {
			edge = fmt.Sprintf("%.4g", s.Bins[i])
		}
		c.add(`<rect class="before" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, f.x(float64(i))+2, f.y(before[i]), wide-3, f.y(0)-f.y(before[i]))
		if i < len(now) {
			c.add(`<rect class="now" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, f.x(float64(i))+wide, f.y(now[i]), wide-3, f.y(0)-f.y(now[i]))
		}
		c.add(`<text x="%.1f" y="%g" text-anchor="middle">%s</text>`, f.x(float64(i))+wide, height-bottom+16, edge)
	}
	return c.done("shares of requests by bin, before and now, in hundredths")
}
