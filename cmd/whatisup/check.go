package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"whatisup/local"
)

// runCheck prints a line for each thing that was looked at, and fails if one of
// them would keep the stack from running, or from running safely.
func runCheck(ctx context.Context, p program) error {
	c, err := local.ConfigFromEnv(p.getenv, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	c.Version = versionName()
	bad := 0
	for _, f := range local.Check(ctx, c) {
		mark := "ok   "
		switch {
		case f.Bad:
			mark = "BAD  "
			bad++
		case f.Note:
			mark = "note "
		}
		if _, err := fmt.Fprintf(p.out, "%s %-12s %s\n", mark, f.About, f.Says); err != nil {
			return err
		}
	}
	if bad > 0 {
		return errors.New("not everything is as it should be")
	}
	return nil
}
