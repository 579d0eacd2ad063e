package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"whatisup/shared/dynamo"
)

// graceDays is for how long keys and pepper can be brought back.
const graceDays = 30

// ErrLinked says that instances of a stack are linked to phones.
var ErrLinked = errors.New("unlink them first (logout or DELETE), or say FORCE=1")

// Protect switches the stack's termination protection on, once it has session
// hosts. It says whether it did.
func Protect(ctx context.Context, c *Client, name string) (bool, error) {
	d, err := c.describe(ctx, name)
	if err != nil {
		return false, err
	}
	if d.parameters["HostImageUri"] == "" || d.parameters["DeletionProtection"] == "false" {
		return false, nil
	}
	return true, c.protect(ctx, name, true)
}

func (c *Client) protect(ctx context.Context, name string, on bool) error {
	_, err := c.stacks.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{
		StackName: &name, EnableTerminationProtection: &on,
	})
	return err
}

// Removal is how a stack is to be removed.
type Removal struct {
	Stack string
	Force bool // neither asks nor cares for linked instances
	In    io.Reader
	Out   io.Writer
	Now   time.Time
	// Within bounds the wait for CloudFormation.
	Within time.Duration
}

// Destroy removes a stack. Until the question is answered it changes nothing, and
// until CloudFormation has begun it puts back what it changed. Pepper and keys
// outlive the stack, and get their days of grace when it is gone.
func Destroy(ctx context.Context, c *Client, r Removal) error {
	d, err := c.describe(ctx, r.Stack)
	if err != nil {
		return err
	}
	has, err := c.resources(ctx, d.id)
	if err != nil {
		return err
	}
	linked, err := Linked(ctx, c.tables, r.Stack+"-instances")
	if _, missing := errors.AsType[*dynamodbtypes.ResourceNotFoundException](err); err != nil && !missing {
		return fmt.Errorf("linked instances could not be counted: %w", err)
	}
	fmt.Fprintf(r.Out, "%d instances are linked\n", linked)
	if !r.Force {
		if linked > 0 {
			return ErrLinked
		}
		fmt.Fprintf(r.Out, "The stack %s in %s goes, with all its customers and their data.\n"+
			"Pepper and keys can be brought back for %d days. Type the stack's name to go on: ", r.Stack, c.Region, graceDays)
		answer, err := bufio.NewReader(r.In).ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if strings.TrimSpace(answer) != r.Stack {
			return errors.New("nothing was changed")
		}
	}
	unprotected, err := c.open(ctx, r, has["AWS::DynamoDB::Table"])
	if err == nil {
		_, err = c.stacks.DeleteStack(ctx, &cloudformation.DeleteStackInput{StackName: &d.id})
	}
	if err != nil {
		return errors.Join(err, c.close(context.WithoutCancel(ctx), r.Stack, unprotected))
	}
	fmt.Fprintf(r.Out, "CloudFormation deletes the stack; hosts drain first\n")
	waiter := cloudformation.NewStackDeleteCompleteWaiter(c.stacks)
	if err := waiter.Wait(ctx, &cloudformation.DescribeStacksInput{StackName: &d.id}, r.Within); err != nil {
		return errors.Join(fmt.Errorf("the stack is not gone: %w", err), c.whyNot(context.WithoutCancel(ctx), d.id))
	}
	return c.grace(ctx, r, has)
}

// open takes the protections away, and returns the tables that had one.
func (c *Client) open(ctx context.Context, r Removal, tables []string) ([]string, error) {
	if err := c.protect(ctx, r.Stack, false); err != nil {
		return nil, err
	}
	var opened []string
	for _, name := range tables {
		t, err := c.tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
		if _, missing := errors.AsType[*dynamodbtypes.ResourceNotFoundException](err); missing {
			continue
		} else if err != nil {
			return opened, err
		}
		if !aws.ToBool(t.Table.DeletionProtectionEnabled) {
			continue
		}
		if err := c.protectTable(ctx, name, false); err != nil {
			return opened, err
		}
		opened = append(opened, name)
	}
	return opened, nil
}

// close puts back what open took away.
func (c *Client) close(ctx context.Context, stack string, tables []string) error {
	var problems []error
	for _, name := range tables {
		problems = append(problems, c.protectTable(ctx, name, true))
	}
	if len(tables) > 0 {
		problems = append(problems, c.protect(ctx, stack, true))
	}
	return errors.Join(problems...)
}

func (c *Client) protectTable(ctx context.Context, name string, on bool) error {
	_, err := c.tables.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: &name, DeletionProtectionEnabled: &on})
	return err
}

// whyNot lists the resources that CloudFormation could not delete.
func (c *Client) whyNot(ctx context.Context, id string) error {
	events, err := c.stacks.DescribeStackEvents(ctx, &cloudformation.DescribeStackEventsInput{StackName: &id})
	if err != nil {
		return err
	}
	var reasons []error
	for _, e := range events.StackEvents {
		if e.ResourceStatus == types.ResourceStatusDeleteFailed && aws.ToString(e.ResourceType) != "AWS::CloudFormation::Stack" {
			reasons = append(reasons, fmt.Errorf("%s: %s", aws.ToString(e.LogicalResourceId), aws.ToString(e.ResourceStatusReason)))
		}
	}
	return errors.Join(reasons...)
}

// grace schedules the deletion of what the stack left, and says how it is brought
// back. A resource that is not there was never made.
func (c *Client) grace(ctx context.Context, r Removal, has map[string][]string) error {
	until := r.Now.AddDate(0, 0, graceDays).Format(time.DateOnly)
	var problems []error
	for _, arn := range has["AWS::SecretsManager::Secret"] {
		problems = append(problems, c.graceSecret(ctx, arn))
		fmt.Fprintf(r.Out, "until %s: aws secretsmanager restore-secret --secret-id %s\n", until, arn)
	}
	for _, id := range has["AWS::KMS::Key"] {
		days := int32(graceDays)
		_, err := c.keys.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: &days})
		if _, gone := errors.AsType[*kmstypes.NotFoundException](err); gone {
			continue
		} else if _, scheduled := errors.AsType[*kmstypes.KMSInvalidStateException](err); err != nil && !scheduled {
			problems = append(problems, fmt.Errorf("key %s: %w", id, err))
		}
		fmt.Fprintf(r.Out, "until %s: aws kms cancel-key-deletion --key-id %s && aws kms enable-key --key-id %s\n", until, id, id)
	}
	return errors.Join(problems...)
}

func (c *Client) graceSecret(ctx context.Context, arn string) error {
	d, err := c.secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &arn})
	if err != nil {
		return fmt.Errorf("pepper %s: %w", arn, err)
	}
	// A secret with copies in other regions can't be deleted.
	var regions []string
	for _, copied := range d.ReplicationStatus {
		regions = append(regions, aws.ToString(copied.Region))
	}
	if len(regions) > 0 {
		if _, err := c.secrets.RemoveRegionsFromReplication(ctx, &secretsmanager.RemoveRegionsFromReplicationInput{SecretId: &arn, RemoveReplicaRegions: regions}); err != nil {
			return fmt.Errorf("pepper %s: %w", arn, err)
		}
	}
	days := int64(graceDays)
	if _, err := c.secrets.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: &arn, RecoveryWindowInDays: &days}); err != nil {
		return fmt.Errorf("pepper %s: %w", arn, err)
	}
	return nil
}

// Linked counts the instances that are linked to a phone: whoever removes the
// stack then would take WhatsApp connections away without unlinking them. It goes
// over the index alone, which has a row for each instance and no content of any
// customer. A tombstone whose link is not given up yet counts.
func Linked(ctx context.Context, client *dynamodb.Client, table string) (int, error) {
	pages := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{
		TableName:                 aws.String(table),
		IndexName:                 aws.String(dynamo.IndexByShard),
		Select:                    dynamodbtypes.SelectCount,
		FilterExpression:          aws.String("#link > :none"),
		ExpressionAttributeNames:  map[string]string{"#link": "link"},
		ExpressionAttributeValues: map[string]dynamodbtypes.AttributeValue{":none": &dynamodbtypes.AttributeValueMemberN{Value: "0"}},
	})
	n := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		n += int(page.Count)
	}
	return n, nil
}
