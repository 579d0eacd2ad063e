package sends

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

func TestAdd(t *testing.T) {
	env := map[string]string{"SEND_LIMIT_CUSTOMER_BURST": "7", "SEND_LIMIT_CUSTOMER_PER_SECOND": "0.5", "SEND_LIMIT_INSTANCE_BURST": "3"}
	var c httpapi.Config
	if err := Add(func(name string) string { return env[name] })(aws.Config{}, &c); err != nil {
		t.Fatal(err)
	}
	want := whatisup.SendLimits{Customer: whatisup.RateLimit{Burst: 7, PerSecond: 0.5}, Instance: whatisup.RateLimit{Burst: 3}}
	if c.SendLimits != want {
		t.Errorf("%+v", c.SendLimits)
	}
	for _, wrong := range []string{"many", "-1"} {
		env["SEND_LIMIT_INSTANCE_PER_SECOND"] = wrong
		if err := Add(func(name string) string { return env[name] })(aws.Config{}, &c); err == nil || !strings.Contains(err.Error(), "SEND_LIMIT_INSTANCE_PER_SECOND") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
