package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Upgrade is a new image for the session hosts, and nothing else.
type Upgrade struct {
	Stack, Image string
	Out          io.Writer
	Now          time.Time
	Within       time.Duration // bounds each wait for CloudFormation
}

// UpgradeHosts changes the image of a stack's session hosts: template, functions
// and all other parameters stay as they are. It looks at what CloudFormation is
// going to change, and refuses anything but the hosts.
func UpgradeHosts(ctx context.Context, c *Client, u Upgrade) error {
	if !strings.Contains(u.Image, "@sha256:") {
		return errors.New("HOST_IMAGE must be the line that `make image PUSH=…` printed, with its digest")
	}
	d, err := c.describe(ctx, u.Stack)
	if err != nil {
		return err
	}
	switch old := d.parameters["HostImageUri"]; old {
	case "":
		return errors.New("the stack has no session hosts yet: start them with `make deploy HOST_IMAGE=…`")
	case u.Image:
		return errors.New("the hosts have this image already")
	default:
		fmt.Fprintf(u.Out, "to go back: make upgrade-hosts HOST_IMAGE=%s\n", old)
	}
	var parameters []types.Parameter
	for _, name := range slices.Sorted(maps.Keys(d.parameters)) {
		p := types.Parameter{ParameterKey: &name, UsePreviousValue: aws.Bool(true)}
		if name == "HostImageUri" {
			p = types.Parameter{ParameterKey: &name, ParameterValue: &u.Image}
		}
		parameters = append(parameters, p)
	}
	change := fmt.Sprintf("hosts-%d", u.Now.Unix())
	if _, err := c.stacks.CreateChangeSet(ctx, &cloudformation.CreateChangeSetInput{
		StackName: &d.id, ChangeSetName: &change, ChangeSetType: types.ChangeSetTypeUpdate,
		UsePreviousTemplate: aws.Bool(true), Parameters: parameters, Capabilities: []types.Capability{types.CapabilityCapabilityIam},
	}); err != nil {
		return err
	}
	if err := c.onlyHosts(ctx, u, d.id, change); err != nil {
		_, failed := c.stacks.DeleteChangeSet(context.WithoutCancel(ctx), &cloudformation.DeleteChangeSetInput{StackName: &d.id, ChangeSetName: &change})
		return errors.Join(err, failed)
	}
	if _, err := c.stacks.ExecuteChangeSet(ctx, &cloudformation.ExecuteChangeSetInput{StackName: &d.id, ChangeSetName: &change}); err != nil {
		return err
	}
	fmt.Fprintln(u.Out, "hosts change one after the other; this ends when all are healthy")
	waiter := cloudformation.NewStackUpdateCompleteWaiter(c.stacks)
	if err := waiter.Wait(ctx, &cloudformation.DescribeStacksInput{StackName: &d.id}, u.Within); err != nil {
		return fmt.Errorf("the hosts did not change, and CloudFormation puts the old image back: %w", err)
	}
	return nil
}

// onlyHosts waits for the change set and looks at what it changes.
func (c *Client) onlyHosts(ctx context.Context, u Upgrade, stack, change string) error {
	waiter := cloudformation.NewChangeSetCreateCompleteWaiter(c.stacks)
	if err := waiter.Wait(ctx, &cloudformation.DescribeChangeSetInput{StackName: &stack, ChangeSetName: &change}, u.Within); err != nil {
		return fmt.Errorf("the change could not be prepared: %w", err)
	}
	pages := cloudformation.NewDescribeChangeSetPaginator(c.stacks, &cloudformation.DescribeChangeSetInput{StackName: &stack, ChangeSetName: &change})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, changed := range page.Changes {
			r := changed.ResourceChange
			if r == nil {
				continue
			}
			fmt.Fprintf(u.Out, "%s %s\n", r.Action, aws.ToString(r.LogicalResourceId))
			if kind := aws.ToString(r.ResourceType); r.Action != types.ChangeActionModify || kind != "AWS::ECS::Service" && kind != "AWS::ECS::TaskDefinition" {
				return fmt.Errorf("this would change %s, which is no session host: nothing was changed", aws.ToString(r.LogicalResourceId))
			}
		}
	}
	return nil
}
