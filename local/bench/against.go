package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// roundMost is how long one round of one build may take.
const roundMost = 90 * time.Minute

// against measures this build beside the build of another commit of the same
// clone. Each is its own benchmark, with its own stand-ins and the same steps and
// sizes; the rounds alternate, and the first of a round changes with each, so that
// what the machine does meanwhile falls on both. It prints the medians of the
// rounds with their spread, and writes this build's rows with the other's beside.
func against(ctx context.Context, commit string, rounds int, getenv func(string) string, path string, out io.Writer) error {
	dir, err := os.MkdirTemp("", "whatisup-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	theirs, err := checkout(ctx, commit, filepath.Join(dir, "src"))
	if err != nil {
		return err
	}
	if err := command(ctx, theirs, nil, out, "go", "build", "-o", filepath.Join(dir, "theirs"), "./local/bench"); err != nil {
		return fmt.Errorf("build the benchmark of %s: %w", commit, err)
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	builds := []build{
		{commit, filepath.Join(dir, "theirs"), theirs, nil},
		{"this build", own, here, nil},
	}
	for n := range rounds {
		for i := range builds {
			b := &builds[(n+i)%2]
			fmt.Fprintf(out, "\n== round %d of %d: %s ==\n", n+1, rounds, b.name)
			rows, err := b.round(ctx, filepath.Join(dir, "rows.json"), getenv, out)
			if err != nil {
				return fmt.Errorf("round %d of %s: %w", n+1, b.name, err)
			}
			b.rounds = append(b.rounds, rows)
		}
	}
	rows := beside(builds[0].rounds, builds[1].rounds)
	printBeside(out, commit, rounds, rows)
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// checkout writes the files of a commit of the clone around the working directory.
func checkout(ctx context.Context, commit, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tar := dir + ".tar"
	var stderr bytes.Buffer
	if err := command(ctx, ".", nil, &stderr, "git", "archive", "--format=tar", "--output="+tar, commit); err != nil {
		return "", fmt.Errorf("BENCH_AGAINST must be a commit of this clone: %s", strings.TrimSpace(stderr.String()))
	}
	return dir, command(ctx, ".", nil, &stderr, "tar", "-xf", tar, "-C", dir)
}

// command runs a program to its end.
func command(ctx context.Context, dir string, env []string, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd.Run()
}

// build is a benchmark program and what its rounds found.
type build struct {
	name, program, dir string
	rounds             [][]row
}

func (b *build) round(ctx context.Context, path string, getenv func(string) string, out io.Writer) ([]row, error) {
	ctx, cancel := context.WithTimeout(ctx, roundMost)
	defer cancel()
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "BENCH") })
	for _, name := range []string{"BENCH", "BENCH_STEPS", "BENCH_SESSIONS"} {
		if v := getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	env = append(env, "BENCH_OUT="+path, "PWD="+b.dir)
	if err := command(ctx, b.dir, env, out, b.program); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []row
	return rows, errors.Join(json.Unmarshal(text, &rows), os.Remove(path))
}

// compared is one figure of two builds: medians of the rounds, with the least and
// the most of them.
type compared struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"`
	Theirs *figures `json:"theirs"` // null: the other build has no such row
	Ours   *figures `json:"ours"`   // null: this build has none any more
	Floor  *figures `json:"floor"`  // the bare library, in this build's rounds
}

type figures struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// ratio is ours by theirs, or nothing where one is missing or zero.
func (c compared) ratio() string {
	if c.Theirs == nil || c.Ours == nil || c.Theirs.Median == 0 {
		return ""
	}
	return strconv.FormatFloat(c.Ours.Median/c.Theirs.Median, 'f', 2, 64)
}

// beside joins the rows of both builds by their names, in this build's order; what
// only the other has comes last.
func beside(theirs, ours [][]row) []compared {
	var all []compared
	place := make(map[string]int)
	gather := func(rounds [][]row, into func(*compared) **figures, of func(row) *float64) {
		values := make(map[string][]float64)
		for _, rows := range rounds {
			for _, r := range rows {
				v := of(r)
				if v == nil {
					continue
				}
				if _, ok := place[r.Name]; !ok {
					place[r.Name] = len(all)
					all = append(all, compared{Name: r.Name, Unit: r.Unit})
				}
				values[r.Name] = append(values[r.Name], *v)
			}
		}
		for name, v := range values {
			slices.Sort(v)
			*into(&all[place[name]]) = &figures{Median: median(v), Least: v[0], Most: v[len(v)-1]}
		}
	}
	value := func(r row) *float64 { return &r.Value }
	gather(ours, func(c *compared) **figures { return &c.Ours }, value)
	gather(ours, func(c *compared) **figures { return &c.Floor }, func(r row) *float64 { return r.Floor })
	gather(theirs, func(c *compared) **figures { return &c.Theirs }, value)
	return all
}

// median of values in order; of an even number the mean of both in the middle.
func median(sorted []float64) float64 {
	n := len(sorted)
	return round((sorted[(n-1)/2] + sorted[n/2]) / 2)
}

func printBeside(out io.Writer, commit string, rounds int, rows []compared) {
	fmt.Fprintf(out, "\nMedians of %d interleaved rounds, with the least and the most of them.\n\n", rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "what\t%s\tthis build\tunit\tours by theirs\tfloor\n", commit)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Theirs, r.Ours, r.Unit, r.ratio(), r.Floor)
	}
	w.Flush()
}

func (f *figures) String() string {
	switch {
	case f == nil:
		return ""
	case f.Least == f.Most:
		return figure(f.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", figure(f.Median), figure(f.Least), figure(f.Most))
}
