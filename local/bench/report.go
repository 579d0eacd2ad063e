package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// row is one figure beside its goal and its floor.
type row struct {
	Name  string   `json:"name"`
	Value float64  `json:"value"`
	Unit  string   `json:"unit"`
	Goal  *float64 `json:"goal"`  // at most this, of a rate at least; null: none is set
	Floor *float64 `json:"floor"` // what the bare library takes, in the same run
	OK    *bool    `json:"ok"`    // null without a goal
	Note  string   `json:"note,omitempty"`
}

// report gathers rows.
type report struct {
	Versions map[string]string
	rows     []row
	out      io.Writer // progress
}

// option adds to a row.
type option func(*row)

// goal is the most that a value may be.
func goal(most float64) option {
	return func(r *row) {
		ok := r.Value <= most
		r.Goal, r.OK = &most, &ok
	}
}

// least is the least that a rate may be.
func least(v float64) option {
	return func(r *row) {
		ok := r.Value >= v
		r.Goal, r.OK = &v, &ok
	}
}

// floor is what the bare library takes.
func floorOf(v float64) option { return func(r *row) { r.Floor = &v } }

// note says what a reader should know.
func note(format string, args ...any) option {
	return func(r *row) { r.Note = fmt.Sprintf(format, args...) }
}

func (p *report) add(name string, value float64, unit string, with ...option) {
	r := row{Name: name, Value: round(value), Unit: unit}
	for _, o := range with {
		o(&r)
	}
	if r.Floor != nil {
		*r.Floor = round(*r.Floor)
	}
	if r.Goal != nil {
		*r.Goal = round(*r.Goal)
	}
	p.rows = append(p.rows, r)
	fmt.Fprintf(p.out, "  %-58s %12s %s%s\n", name, figure(r.Value), unit, missed(r))
}

func missed(r row) string {
	if r.OK != nil && !*r.OK {
		return "  (goal " + figure(*r.Goal) + ")  " + r.Note
	}
	return ""
}

// spread adds the median, the 99th percentile and the number of samples.
func (p *report) spread(name string, s spread, floor spread, median, tail []option) {
	if len(floor) > 0 {
		median = append(median, floorOf(floor.at(.5)))
		tail = append(tail, floorOf(floor.at(.99)))
	}
	p.add(name+", p50", s.at(.5), "ms", append(median, note("%d samples", len(s)))...)
	p.add(name+", p99", s.at(.99), "ms", tail...)
}

// round keeps as many digits as a reader can use.
func round(v float64) float64 {
	text := strconv.FormatFloat(v, 'g', 4, 64)
	out, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return v
	}
	return out
}

func figure(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// write writes the rows as JSON.
func (p *report) write(path string) error {
	b, err := json.MarshalIndent(p.rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// print prints the table.
func (p *report) print(out io.Writer) {
	fmt.Fprintln(out)
	for _, name := range slices.Sorted(maps.Keys(p.Versions)) {
		fmt.Fprintf(out, "%-48s %s\n", name, p.Versions[name])
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tvalue\tunit\tgoal\tfloor\t\tnote")
	section := ""
	for _, r := range p.rows {
		if s, _, _ := strings.Cut(r.Name, ": "); s != section {
			section = s
			fmt.Fprintln(w, "\t\t\t\t\t\t")
		}
		mark := ""
		if r.OK != nil {
			mark = map[bool]string{true: "ok", false: "MISSED"}[*r.OK]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, figure(r.Value), r.Unit, maybe(r.Goal), maybe(r.Floor), mark, r.Note)
	}
	w.Flush()
}

func maybe(v *float64) string {
	if v == nil {
		return ""
	}
	return figure(*v)
}
