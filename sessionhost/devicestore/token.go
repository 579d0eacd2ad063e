package devicestore

import (
	"context"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// token is a privacy token's row.
type token struct {
	Token  []byte `json:"token"`
	Time   int64  `json:"time"`             // unix seconds
	Sender *int64 `json:"sender,omitempty"` // unix seconds
}

func (l *link) tokenRow(user wa.JID) string {
	return kindToken + "#" + l.key.Name(kindToken, user.ToNonAD().String())
}

// PutPrivacyTokens keeps the newer token, and the sender's time if the newer
// one has none.
func (l *link) PutPrivacyTokens(ctx context.Context, tokens ...store.PrivacyToken) error {
	if err := l.usable(); err != nil {
		return err
	}
	for batch := range slices.Chunk(tokens, maxItems-spare) {
		err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
			sks := make([]string, len(batch))
			for i, in := range batch {
				sks[i] = l.tokenRow(in.User)
			}
			rows, err := l.getMany(ctx, sks)
			if err != nil {
				return err
			}
			for i, in := range batch {
				next := token{Token: slices.Clone(in.Token), Time: in.Timestamp.Unix()}
				if !in.SenderTimestamp.IsZero() {
					s := in.SenderTimestamp.Unix()
					next.Sender = &s
				}
				if value := rows[sks[i]]; value != nil {
					var current token
					if err := l.decode(value, &current); err != nil {
						return err
					}
					if next.Time < current.Time {
						continue
					}
					if next.Sender == nil {
						next.Sender = current.Sender
					}
				}
				value := encode(next)
				if string(value) == string(rows[sks[i]]) {
					continue
				}
				rows[sks[i]] = value
				t.put(sks[i], value)
				t.hot = append(t.hot, func(h *hot) {
					if h.oldestToken == 0 || next.Time < h.oldestToken {
						h.oldestToken = max(next.Time, 1)
					}
				})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *link) GetPrivacyToken(ctx context.Context, user wa.JID) (*store.PrivacyToken, error) {
	if s := l.sendingOf(ctx); s != nil {
		s.afterEncryption() // whatsmeow asks between encrypting a direct message and its frame
	}
	forms, err := l.forms(ctx, user)
	if err != nil {
		return nil, err
	}
	sks := make([]string, len(forms))
	for i, form := range forms {
		sks[i] = l.tokenRow(form)
	}
	rows, err := l.getMany(ctx, sks)
	if err != nil {
		return nil, err
	}
	var best *token
	for _, sk := range sks {
		if rows[sk] == nil {
			continue
		}
		var t token
		if err := l.decode(rows[sk], &t); err != nil {
			return nil, err
		}
		if best == nil || t.Time > best.Time {
			best = &t
		}
	}
	if best == nil {
		return nil, nil
	}
	out := &store.PrivacyToken{User: user.ToNonAD(), Token: best.Token, Timestamp: time.Unix(best.Time, 0)}
	if best.Sender != nil {
		out.SenderTimestamp = time.Unix(*best.Sender, 0)
	}
	return out, nil
}

// DeleteExpiredPrivacyTokens is called at every login. The device row knows
// that no token is older than some time, so mostly there is nothing to look at.
func (l *link) DeleteExpiredPrivacyTokens(ctx context.Context, cutoff time.Time) (int64, error) {
	if err := l.usable(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	oldest := l.hot.oldestToken
	l.mu.Unlock()
	if oldest == 0 || oldest >= cutoff.Unix() {
		return 0, nil
	}
	rows, err := l.list(ctx, kindToken+"#")
	if err != nil {
		return 0, err
	}
	var old []string
	var kept int64
	for sk, value := range rows {
		var t token
		if err := l.decode(value, &t); err != nil {
			return 0, err
		}
		if t.Time < cutoff.Unix() {
			old = append(old, sk)
		} else if kept == 0 || t.Time < kept {
			kept = t.Time
		}
	}
	var deleted int64
	for batch := range slices.Chunk(old, maxItems-spare) {
		var n int64
		err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
			n = 0
			rows, err := l.getMany(ctx, batch) // one may have been renewed since
			if err != nil {
				return err
			}
			for _, sk := range batch {
				var tok token
				if rows[sk] == nil {
					continue
				}
				if err := l.decode(rows[sk], &tok); err != nil {
					return err
				}
				if tok.Time < cutoff.Unix() {
					t.delete(sk)
					n++
				}
			}
			return nil
		})
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
	return deleted, l.stage(ctx, nil, func(h *hot) { h.oldestToken = kept })
}

func (l *link) PutNCTSalt(ctx context.Context, salt []byte) error {
	return l.putChanged(ctx, kindSalt+"#", nonNil(salt))
}

func (l *link) GetNCTSalt(ctx context.Context) ([]byte, error) {
	return l.get(ctx, kindSalt+"#")
}

func (l *link) DeleteNCTSalt(ctx context.Context) error {
	return l.deleteRow(ctx, kindSalt+"#")
}
