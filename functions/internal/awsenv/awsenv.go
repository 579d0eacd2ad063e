// Package awsenv says how a function reaches AWS, by what Lambda puts into its
// environment. The SDK's own package for this would also look for profiles, SSO
// sessions, roles to assume and a machine's metadata, which no function has, and
// makes each binary two megabytes larger.
package awsenv

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Config reads AWS_REGION, the credentials of the function's role, and
// AWS_ENDPOINT_URL, which leads to something that stands in for AWS. The credentials
// are read once, as the SDK's own package does, too.
func Config(getenv func(string) string) (aws.Config, error) {
	var problems []error
	must := func(name string) string {
		value := getenv(name)
		if value == "" {
			problems = append(problems, fmt.Errorf("%s must be set", name))
		}
		return value
	}
	c := aws.Config{
		Region: must("AWS_REGION"),
		Credentials: credentials.NewStaticCredentialsProvider(
			must("AWS_ACCESS_KEY_ID"), must("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN")),
		// The SDK's defaults, which its own package sets.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	if endpoint := getenv("AWS_ENDPOINT_URL"); endpoint != "" {
		c.BaseEndpoint = aws.String(endpoint)
	}
	return c, errors.Join(problems...)
}
