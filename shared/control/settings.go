package control

import (
	"context"

	"whatisup/shared/whatisup"
)

// UpdateSettings changes the settings of an instance and wakes its session, which
// reads them. A change that changes nothing is not written. matches says whether
// the caller accepts the version that is to be changed.
func (c *Control) UpdateSettings(ctx context.Context, who Caller, i *whatisup.Instance, change func(*whatisup.Settings), matches func(*whatisup.Instance) bool) (*whatisup.Instance, error) {
	for try := 1; ; try++ {
		if !matches(i) {
			return nil, ErrModified
		}
		settings := i.Settings
		change(&settings)
		if settings.Same(i.Settings) {
			return i, nil
		}
		err := c.Store.UpdateSettings(ctx, i, settings)
		if newer, err := c.again(ctx, who, i, try, err); err != nil {
			return nil, err
		} else if newer != nil {
			i = newer
			continue
		}
		updated := *i
		updated.Settings = settings
		updated.SettingsVersion++
		c.wake(ctx, who, i)
		return &updated, nil
	}
}
