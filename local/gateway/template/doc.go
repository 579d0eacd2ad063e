// Package template reads template.yaml, so that what runs on one machine is
// what would be deployed: the gateway takes its routes and timeouts from it,
// and tests hold it together with the code.
//
// It knows as much of CloudFormation as the template uses: parameters,
// conditions, the intrinsic functions in [Template.Resolve], and of SAM the
// functions with their HttpApi and SQS events. What it doesn't know is an error,
// never a guess.
package template
