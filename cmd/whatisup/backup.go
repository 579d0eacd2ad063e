package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"whatisup/local"
)

func runBackup(ctx context.Context, p program) error {
	if len(p.args) != 1 {
		return errors.New("say the file to write, as in: whatisup backup /var/backups/whatisup-monday.tgz")
	}
	c, err := local.ConfigFromEnv(p.getenv, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	c.Version = versionName()
	if err := local.Backup(ctx, c, p.args[0]); err != nil {
		return err
	}
	info, err := os.Stat(p.args[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "%s: %.1f MB. It holds every key and message: keep it as secret as %s.\n", p.args[0], float64(info.Size())/1e6, c.DataDir)
	return err
}

func runRestore(ctx context.Context, p program) error {
	if len(p.args) != 1 {
		return errors.New("say the file to read, as in: whatisup restore /var/backups/whatisup-monday.tgz")
	}
	c, err := local.ConfigFromEnv(p.getenv, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	r, err := local.Restore(ctx, c, p.args[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "%s is as it was on %s (whatisup %s).\n\n", c.DataDir, r.At.Format(time.RFC1123), r.By)
	if len(r.Missing) > 0 {
		fmt.Fprintf(p.out, "Not in the backup, because it came from elsewhere: %s. `whatisup run` needs it again.\n\n", strings.Join(r.Missing, ", "))
	}
	_, err = fmt.Fprint(p.out, `Before you start it: the stack that the backup is of must not run any more. Two
that have one link take it from each other.

Links stay: no phone scans again, unless a link was ended since. What came in since
the backup is not there. Signal sessions are as they were: a message that can't be
read with them is asked for again, and comes when the sender's phone is online.
Messages that were waiting to be sent then are sent now, even if they had been sent
since.
`)
	return err
}
