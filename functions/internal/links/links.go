// Package links opens what a function needs that shows files to their customers and
// never touches the bytes.
package links

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// Add returns what environment.Function.With adds to such a function, from its settings.
func Add(getenv func(string) string) func(aws.Config, *httpapi.Config) error {
	return func(_ aws.Config, c *httpapi.Config) (err error) {
		c.PublicURL = getenv("PUBLIC_URL")
		if c.Links, err = whatisup.NewMediaLinks(c.PublicURL, whatisup.Secret(getenv("MEDIA_SECRET"))); err != nil {
			return fmt.Errorf("MEDIA_SECRET must have at least 16 characters")
		}
		c.MediaKept, err = Kept(getenv)
		return err
	}
}

// Kept is how long files are kept: MEDIA_DAYS, 7 at most, because the bucket removes
// them after 8.
func Kept(getenv func(string) string) (time.Duration, error) {
	s := getenv("MEDIA_DAYS")
	if s == "" {
		return whatisup.MediaKept, nil
	}
	days, err := strconv.Atoi(s)
	if err != nil || days < 1 || days > 7 {
		return 0, errors.New("MEDIA_DAYS must be 1 to 7")
	}
	return time.Duration(days) * 24 * time.Hour, nil
}
