package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

func getSettings(c *call) (*answer, error) { return settingsAnswer(c.instance), nil }

func settingsAnswer(i *whatisup.Instance) *answer {
	return reply(http.StatusOK, i.Settings).set("ETag", settingsETag(i))
}

// settingsETag counts changes of the settings, and of nothing else.
func settingsETag(i *whatisup.Instance) string {
	return `"` + strconv.FormatUint(i.SettingsVersion, 10) + `"`
}

func updateSettings(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	p := settingsPatch{defaults: whatisup.DefaultSettings()}
	p.read(b)
	if len(b.Fields) == 0 {
		b.Problem("body", "must have at least one setting")
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	updated, err := c.control.UpdateSettings(c.ctx, c.who(), c.instance, p.apply, func(i *whatisup.Instance) bool {
		return matches(c.r.Header.Values("If-Match"), settingsETag(i))
	})
	if err != nil {
		return nil, err
	}
	return settingsAnswer(updated), nil
}

// settingsPatch is what a PATCH changes, setting by setting. Null resets one.
type settingsPatch struct {
	defaults whatisup.Settings
	changes  []func(*whatisup.Settings)
}

func (p *settingsPatch) apply(s *whatisup.Settings) {
	for _, change := range p.changes {
		change(s)
	}
}

func (p *settingsPatch) add(change func(*whatisup.Settings)) { p.changes = append(p.changes, change) }

func (p *settingsPatch) read(b *input.Object) {
	p.flag(b, "reject_calls", func(s *whatisup.Settings) *bool { return &s.RejectCalls })
	p.flag(b, "read_on_receive", func(s *whatisup.Settings) *bool { return &s.ReadOnReceive })
	p.flag(b, "online", func(s *whatisup.Settings) *bool { return &s.Online })

	if v, ok := b.Take("receive"); ok && string(v) == "null" {
		p.add(func(s *whatisup.Settings) { s.Receive = p.defaults.Receive })
	} else if receive, ok := b.Object("receive", false); ok {
		p.flag(receive, "groups", func(s *whatisup.Settings) *bool { return &s.Receive.Groups })
		p.flag(receive, "status", func(s *whatisup.Settings) *bool { return &s.Receive.Status })
		p.flag(receive, "channels", func(s *whatisup.Settings) *bool { return &s.Receive.Channels })
	}

	if v, ok := b.Take("media"); ok && string(v) == "null" {
		p.add(func(s *whatisup.Settings) { s.Media = p.defaults.Media })
	} else if text, ok := b.Text("media", false); ok {
		media := whatisup.MediaSetting(text)
		if !slices.Contains(whatisup.MediaSettings, media) {
			b.Problem("media", "must be fetch, on_demand or off")
		}
		p.add(func(s *whatisup.Settings) { s.Media = media })
	}

	if n, null, ok := number(b, "min_gap_ms", 0, whatisup.MinGapMost); ok {
		if null {
			n = p.defaults.MinGapMS
		}
		p.add(func(s *whatisup.Settings) { s.MinGapMS = n })
	}
	if n, null, ok := number(b, "new_chats_per_day", 0, whatisup.NewChatsMost); ok {
		p.add(func(s *whatisup.Settings) {
			s.NewChatsDay = nil
			if !null {
				s.NewChatsDay = &n
			}
		})
	}
}

// flag reads a setting that is true or false.
func (p *settingsPatch) flag(b *input.Object, name string, of func(*whatisup.Settings) *bool) {
	v, ok := b.Take(name)
	if !ok {
		return
	}
	var value *bool
	if err := json.Unmarshal(v, &value); err != nil {
		b.Problem(name, "must be true or false")
		return
	}
	if value == nil {
		value = of(&p.defaults)
	}
	p.add(func(s *whatisup.Settings) { *of(s) = *value })
}

// number reads a whole number; ok is false if it is missing or is none.
func number(b *input.Object, name string, least, most int) (n int, null, ok bool) {
	v, ok := b.Take(name)
	if !ok {
		return 0, false, false
	}
	var value *int
	if err := json.Unmarshal(v, &value); err != nil || value != nil && (*value < least || *value > most) {
		b.Problem(name, fmt.Sprintf("must be a whole number from %d to %d", least, most))
		return 0, false, false
	}
	if value == nil {
		return 0, true, true
	}
	return *value, false, true
}
