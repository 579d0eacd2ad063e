package line

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	libsignal "go.mau.fi/libsignal/logger"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// libraryLog takes the library's log lines into ours. The library formats nodes,
// numbers and names into them, so only the constant text of a line is kept, and
// of its values those that can't hold anybody's data. The rest is the name of its
// type. What the library calls an error is news at most: it is about one
// session, and what follows from it the session says itself. A connection that
// ends is not even that.
type libraryLog struct {
	log    *slog.Logger
	module string
}

func (l libraryLog) Errorf(msg string, args ...any) {
	if l.module == "Socket" {
		l.line(slog.LevelDebug, msg, args)
		return
	}
	l.line(slog.LevelInfo, msg, args)
}
func (l libraryLog) Warnf(msg string, args ...any) { l.line(slog.LevelDebug, msg, args) }
func (l libraryLog) Infof(msg string, args ...any) { l.line(slog.LevelDebug, msg, args) }
func (l libraryLog) Debugf(string, ...any)         {} // whole stanzas, one a line

func (l libraryLog) Sub(module string) waLog.Logger {
	if l.module != "" {
		module = l.module + "/" + module
	}
	return libraryLog{log: l.log, module: module}
}

func (l libraryLog) line(level slog.Level, msg string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	safe := make([]any, 0, len(args))
	for _, a := range args {
		switch a := a.(type) {
		case int, int32, int64, uint16, uint32, uint64, bool, time.Duration:
			safe = append(safe, a)
		default:
			safe = append(safe, fmt.Sprintf("%T", a))
		}
	}
	l.log.Log(context.Background(), level, "whatsmeow: "+msg, "module", l.module, "values", safe)
}

// LogLibsignal takes libsignal's log lines into log, as debugging: it prints them
// to the standard output otherwise, and what they say of a message that can't be
// read at once is no news. Their text is formatted already and may hold
// anything, so only the place in the library that they come from is kept. The
// setting is one of the process and has no lock: call it before anything else.
func LogLibsignal(log *slog.Logger) {
	var lines libsignal.Loggable = libsignalLog{log}
	libsignal.Setup(&lines)
}

type libsignalLog struct{ log *slog.Logger }

func (l libsignalLog) Debug(string, string)   {}
func (l libsignalLog) Info(string, string)    {}
func (l libsignalLog) Warning(string, string) {} // each comes with an error
func (l libsignalLog) Error(caller, _ string) { l.log.Debug("libsignal", "at", caller) }
func (l libsignalLog) Configure(string)       {}
