// Package sends reads the limits of messages, for the functions that enforce or show
// them.
package sends

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"

	"whatisup/shared/httpapi"
)

// Add returns what environment.Function.With adds to a function, from its settings.
func Add(getenv func(string) string) func(aws.Config, *httpapi.Config) error {
	return func(_ aws.Config, c *httpapi.Config) error {
		var problems []error
		number := func(name string, take func(float64)) {
			text := getenv(name)
			if text == "" {
				return
			}
			v, err := strconv.ParseFloat(text, 64)
			if err != nil || v < 0 {
				problems = append(problems, fmt.Errorf("%s must be a number, and not negative: %q", name, text))
				return
			}
			take(v)
		}
		customer, instance := &c.SendLimits.Customer, &c.SendLimits.Instance
		number("SEND_LIMIT_CUSTOMER_BURST", func(v float64) { customer.Burst = int(v) })
		number("SEND_LIMIT_CUSTOMER_PER_SECOND", func(v float64) { customer.PerSecond = v })
		number("SEND_LIMIT_INSTANCE_BURST", func(v float64) { instance.Burst = int(v) })
		number("SEND_LIMIT_INSTANCE_PER_SECOND", func(v float64) { instance.PerSecond = v })
		return errors.Join(problems...)
	}
}
