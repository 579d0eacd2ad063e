package dynamo

import (
	"errors"
	"testing"

	"whatisup/shared/whatisup"
)

func TestCheckPeppers(t *testing.T) {
	t.Parallel()
	db := open(t)
	one, other := whatisup.Secret("0123456789abcdef"), whatisup.Secret("fedcba9876543210")
	for _, c := range []struct {
		peppers whatisup.Peppers
		fits    bool
	}{
		{whatisup.Peppers{1: one}, true},
		{whatisup.Peppers{1: one}, true},
		{whatisup.Peppers{1: other}, false},
		{whatisup.Peppers{1: one, 2: other}, true}, // while they change
		{whatisup.Peppers{2: other}, true},
		{whatisup.Peppers{1: other, 2: other}, false},
		{whatisup.Peppers{2: one}, false},
	} {
		err := db.CheckPeppers(t.Context(), c.peppers)
		if c.fits && err != nil || !c.fits && !errors.Is(err, whatisup.ErrPepper) {
			t.Errorf("versions %d: %v, want fit %v", len(c.peppers), err, c.fits)
		}
	}
}
