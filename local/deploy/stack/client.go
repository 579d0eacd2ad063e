package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cloudformationtypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// Client is AWS, as far as a deployment is looked at and taken down.
type Client struct {
	Region string

	stacks  *cloudformation.Client
	lambda  *lambda.Client
	quotas  *servicequotas.Client
	caller  *sts.Client
	secrets *secretsmanager.Client
	tables  *dynamodb.Client
	keys    *kms.Client
	queues  *sqs.Client
}

// Open makes the clients. It calls nothing.
func Open(cfg aws.Config) *Client {
	return &Client{
		Region: cfg.Region,
		stacks: cloudformation.NewFromConfig(cfg), lambda: lambda.NewFromConfig(cfg), quotas: servicequotas.NewFromConfig(cfg),
		caller: sts.NewFromConfig(cfg), secrets: secretsmanager.NewFromConfig(cfg), tables: dynamodb.NewFromConfig(cfg),
		keys: kms.NewFromConfig(cfg), queues: sqs.NewFromConfig(cfg),
	}
}

// ErrNoStack says that there is no stack of a name.
var ErrNoStack = errors.New("there is no such stack")

// deployed is a stack as it stands.
type deployed struct {
	id         string
	status     cloudformationtypes.StackStatus
	parameters map[string]string
	outputs    map[string]string
	role       string // that CloudFormation uses for it
}

// describe looks a stack up. A stack that was only reviewed and never made is none.
func (c *Client) describe(ctx context.Context, name string) (*deployed, error) {
	out, err := c.stacks.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
	if problem, ok := errors.AsType[smithy.APIError](err); ok && problem.ErrorCode() == "ValidationError" && strings.Contains(problem.ErrorMessage(), "does not exist") {
		return nil, fmt.Errorf("%s in %s: %w", name, c.Region, ErrNoStack)
	} else if err != nil {
		return nil, err
	}
	s := out.Stacks[0]
	if s.StackStatus == cloudformationtypes.StackStatusReviewInProgress || s.StackStatus == cloudformationtypes.StackStatusDeleteComplete {
		return nil, fmt.Errorf("%s in %s: %w", name, c.Region, ErrNoStack)
	}
	d := &deployed{
		id: aws.ToString(s.StackId), status: s.StackStatus, role: aws.ToString(s.RoleARN),
		parameters: make(map[string]string), outputs: make(map[string]string),
	}
	for _, p := range s.Parameters {
		d.parameters[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	for _, o := range s.Outputs {
		d.outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	return d, nil
}

// logical are the physical ids of a stack's resources, by their names in the template.
func (c *Client) logical(ctx context.Context, stack string) (map[string]string, error) {
	found := make(map[string]string)
	pages := cloudformation.NewListStackResourcesPaginator(c.stacks, &cloudformation.ListStackResourcesInput{StackName: &stack})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.StackResourceSummaries {
			if r.ResourceStatus != cloudformationtypes.ResourceStatusDeleteComplete {
				found[aws.ToString(r.LogicalResourceId)] = aws.ToString(r.PhysicalResourceId)
			}
		}
	}
	return found, nil
}

// resources are the physical ids of a stack's resources that are there, by type.
func (c *Client) resources(ctx context.Context, stack string) (map[string][]string, error) {
	found := make(map[string][]string)
	pages := cloudformation.NewListStackResourcesPaginator(c.stacks, &cloudformation.ListStackResourcesInput{StackName: &stack})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.StackResourceSummaries {
			id, kind := aws.ToString(r.PhysicalResourceId), aws.ToString(r.ResourceType)
			if id != "" && r.ResourceStatus != cloudformationtypes.ResourceStatusDeleteComplete {
				found[kind] = append(found[kind], id)
			}
		}
	}
	for _, ids := range found {
		slices.Sort(ids)
	}
	return found, nil
}

// plainly is what AWS says of an error, without the client's own words around it.
func plainly(err error) string {
	if problem, ok := errors.AsType[smithy.APIError](err); ok {
		return problem.ErrorCode() + ": " + problem.ErrorMessage()
	}
	return err.Error()
}
