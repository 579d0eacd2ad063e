package main

import "fmt"

// most is what things may cost in requests: what was counted when it was last
// looked at, with room for what time adds (a code is vouched for again every few
// seconds, a waiting call looks again). What grows beyond is refused by a test,
// so that it grows on purpose or not at all. Zero is a bound too.
var most = map[string]usage{
	"QR call with an attempt": {Writes: 12, Reads: 60, WriteUnits: 42, Sends: 3, KMS: 1},
	"pairing":                 {Writes: 26, Reads: 80, WriteUnits: 155, Sends: 5, KMS: 1},
	"reconnect":               {Writes: 6, Reads: 2, WriteUnits: 24, Sends: 3, KMS: 0},
	"received message":        {Writes: 3, Reads: 0, WriteUnits: 6, Sends: 1, KMS: 0},
	"sent message":            {Writes: 8, Reads: 3, WriteUnits: 18, Sends: 1.1, KMS: 0}, // of 20, whose folds weigh more
	"receipt":                 {Writes: 2.2, Reads: .2, WriteUnits: 2.2, Sends: 1.1, KMS: 0},
	"session handed over":     {Writes: 5, Reads: 8, WriteUnits: 20, Sends: 1, KMS: 1},
}

// beyond says where a usage is above its bound.
func beyond(what string, u usage) (all []string) {
	m, ok := most[what]
	if !ok {
		return []string{what + ": nothing says how much it may cost"}
	}
	for _, f := range []struct {
		name     string
		is, most float64
	}{
		{"DynamoDB writes", u.Writes, m.Writes}, {"DynamoDB reads", u.Reads, m.Reads},
		{"write units", u.WriteUnits, m.WriteUnits}, {"sends of events", u.Sends, m.Sends}, {"KMS calls", u.KMS, m.KMS},
	} {
		if f.is > f.most {
			all = append(all, fmt.Sprintf("%s: %.3g %s, at most %.3g are allowed", what, f.is, f.name, f.most))
		}
	}
	return all
}
