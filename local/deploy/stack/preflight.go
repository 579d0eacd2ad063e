package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	quotatypes "github.com/aws/aws-sdk-go-v2/service/servicequotas/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"whatisup/local/gateway/template"
)

// Wish is what somebody is about to deploy.
type Wish struct {
	Stack    string
	Set      map[string]string // parameters, by name
	Template *template.Template
	Checkout fs.FS // where the template's CodeUris lead
}

// Finding is what a look before a deploy has to say: one sentence.
type Finding struct {
	Text  string
	Fatal bool // a deploy would fail
}

// unreserved is how much of the account's concurrency Lambda keeps unreserved.
const unreserved = 100

// toSell is the concurrency below which a deployment is a trial.
const toSell = 1000

// Fargate's quota of vCPUs that run at one time.
const (
	fargateService = "fargate"
	fargateQuota   = "L-3032A538"
	lambdaQuota    = "L-B99A9384"
)

// stackName is what all names that are made of it allow: a repository's has no
// upper case, a function's ends after 64 letters.
var stackName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,51}$`)

// reservations are the parameters that take from Lambda's concurrency.
var reservations = []string{"StreamConcurrency", "QrConcurrency", "SandboxConcurrency"}

// preflight is a look on its way.
type preflight struct {
	*Client
	Wish
	findings []Finding
	stack    *deployed // nil if there is none yet
	account  string
}

func (p *preflight) refuse(format string, args ...any) {
	p.findings = append(p.findings, Finding{fmt.Sprintf(format, args...), true})
}

func (p *preflight) note(format string, args ...any) {
	p.findings = append(p.findings, Finding{fmt.Sprintf(format, args...), false})
}

// Preflight looks at everything that AWS would refuse half-way, and changes
// nothing. c is nil where no region is set.
func Preflight(ctx context.Context, c *Client, w Wish) []Finding {
	p := &preflight{Client: c, Wish: w}
	if !stackName.MatchString(w.Stack) {
		p.refuse("The stack can't be called %q: a name is up to 52 lower-case letters, digits and hyphens, and begins with a letter.", w.Stack)
		return p.findings
	}
	p.binaries()
	if c == nil {
		p.refuse("No region is set: set AWS_REGION.")
		p.parameters()
		return p.findings
	}
	who, err := c.caller.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		p.refuse("AWS does not accept the credentials: %s.", plainly(err))
		p.parameters()
		return p.findings
	}
	p.account = aws.ToString(who.Account)
	if p.stack, err = c.describe(ctx, w.Stack); err != nil && !errors.Is(err, ErrNoStack) {
		p.refuse("The stack can't be looked at: %s.", plainly(err))
		return p.findings
	}
	changeable := p.state(ctx)
	p.parameters()
	p.regions()
	if !changeable {
		return p.findings // the rest of it may be half gone
	}
	p.concurrency(ctx)
	p.processors(ctx)
	p.peppers(ctx)
	p.eventQueues(ctx)
	return p.findings
}

// value is what a parameter will have: as set now, else as it is, else its default.
func (p *preflight) value(name string) string {
	if v, ok := p.Set[name]; ok {
		return v
	}
	if p.stack != nil {
		if v, ok := p.stack.parameters[name]; ok {
			return v
		}
	}
	return fmt.Sprint(p.Template.Parameters[name].Default)
}

// number is a parameter's value; not a number, CloudFormation says so before it
// makes anything.
func (p *preflight) number(name string) int {
	n, _ := strconv.Atoi(p.value(name))
	return n
}

func (p *preflight) texts(name string) []string {
	if v := p.value(name); v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

// binaries looks for the functions that the template names.
func (p *preflight) binaries() {
	functions, err := p.Template.Functions()
	if err != nil {
		p.refuse("The template can't be read: %v.", err)
		return
	}
	for _, f := range functions {
		file := ".build/" + f.Name + "/bootstrap"
		if s, err := fs.Stat(p.Checkout, file); err != nil || s.Size() == 0 {
			p.refuse("The function %s is not built: %s is missing; run `make build`.", f.Name, file)
		}
	}
}

// parameters looks at names and at what goes together.
func (p *preflight) parameters() {
	known := make(template.Values)
	for name := range p.Template.Parameters {
		known[name] = p.value(name)
	}
	for name := range p.Set {
		if _, ok := p.Template.Parameters[name]; !ok {
			p.refuse("There is no parameter %s.", name)
		}
	}
	broken, err := p.Template.Refusals(known)
	if err != nil {
		p.refuse("The template's rules can't be read: %v.", err)
	}
	for _, sentence := range broken {
		p.refuse("%s", sentence)
	}
	urls, arns := p.texts("ExtraEventQueueUrls"), p.texts("ExtraEventQueueArns")
	if len(urls) > 0 && len(arns) > 0 && !slices.EqualFunc(urls, arns, func(url, arn string) bool {
		return url[strings.LastIndex(url, "/")+1:] == arn[strings.LastIndex(arn, ":")+1:]
	}) {
		p.refuse("ExtraEventQueueArns must name the queues of ExtraEventQueueUrls, in the same order.")
	}
}

// regions looks at what must be in this region, or in another.
func (p *preflight) regions() {
	for _, url := range p.texts("ExtraEventQueueUrls") {
		if !strings.HasPrefix(url, "https://sqs."+p.Region+".") || !strings.Contains(url, "/"+p.account+"/") {
			p.refuse("The queue %s is not in %s of account %s: events can be sent to no other.", url, p.Region, p.account)
		}
	}
	if arn := p.value("CertificateArn"); arn != "" && !strings.Contains(arn, ":acm:"+p.Region+":") {
		p.refuse("CertificateArn must be a certificate in %s.", p.Region)
	}
	if arn := p.value("StreamCertificateArn"); arn != "" && !strings.Contains(arn, ":acm:us-east-1:") {
		p.refuse("StreamCertificateArn must be a certificate in us-east-1, where CloudFront looks for it.")
	}
}

// state looks at whether the stack can be changed, or what an earlier one left.
func (p *preflight) state(ctx context.Context) (changeable bool) {
	if p.stack == nil {
		for _, r := range p.Template.OfType("AWS::DynamoDB::Table") {
			name := p.tableName(r)
			_, err := p.tables.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
			if _, missing := errors.AsType[*dynamodbtypes.ResourceNotFoundException](err); missing {
				continue
			} else if err != nil {
				p.note("Whether there is a table %s could not be looked up: %s.", name, plainly(err))
				break
			}
			p.refuse("There is a table %s already, of an earlier stack: delete it, or choose another name.", name)
		}
		return true
	}
	switch s := p.stack.status; {
	case s == types.StackStatusRollbackComplete, s == types.StackStatusRollbackFailed, s == types.StackStatusCreateFailed, s == types.StackStatusDeleteFailed:
		p.refuse("The stack is in %s and can only be deleted: run `make destroy`, then deploy again.", s)
	case s == types.StackStatusUpdateRollbackFailed:
		p.refuse("The stack is in %s: see \"A deploy that can't be put back\" in OPERATIONS.md.", s)
	case strings.HasSuffix(string(s), "_IN_PROGRESS") && s != types.StackStatusUpdateCompleteCleanupInProgress:
		p.refuse("The stack is in %s: wait until that has ended.", s)
	default:
		return true
	}
	return false
}

// tableName is the name that the template gives a table.
func (p *preflight) tableName(r template.Resource) string {
	name, err := p.Template.Resolve(r.Properties["TableName"], template.Values{"AWS::StackName": p.Stack})
	if err != nil {
		p.refuse("The template can't be read: %v.", err)
	}
	return fmt.Sprint(name)
}

// concurrency looks at Lambda's quota.
func (p *preflight) concurrency(ctx context.Context) {
	out, err := p.lambda.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil || out.AccountLimit == nil {
		p.note("Lambda's quota could not be looked up: %s.", plainly(cmp.Or(err, errors.New("no answer"))))
		return
	}
	all := int(out.AccountLimit.ConcurrentExecutions)
	wanted := 0
	for _, name := range reservations {
		wanted += p.number(name)
	}
	others := all - int(aws.ToInt32(out.AccountLimit.UnreservedConcurrentExecutions))
	if p.stack != nil {
		for _, name := range reservations {
			n, _ := strconv.Atoi(p.stack.parameters[name])
			others -= n
		}
	}
	if free := max(0, all-unreserved-max(0, others)); wanted > free {
		p.refuse("StreamConcurrency, QrConcurrency and SandboxConcurrency reserve %d of Lambda's concurrency, and %d can be reserved (the account has %d, and %d stay unreserved): set less, or ask for more (Service Quotas, %s).",
			wanted, free, all, unreserved, lambdaQuota)
	}
	if all < toSell {
		p.note("Lambda's concurrency is %d: all customers' calls and streams together; ask for %d before you sell it (Service Quotas, %s).", all, toSell, lambdaQuota)
	} else if wanted == 0 {
		p.note("Nothing is reserved for event streams and for calls that wait: set StreamConcurrency=100 QrConcurrency=300.")
	}
}

// processors looks at Fargate's quota: at a deploy there are more hosts for a
// while.
func (p *preflight) processors(ctx context.Context) {
	hosts := p.number("HostCount")
	if p.value("HostImageUri") == "" || hosts == 0 {
		return
	}
	share := 150
	if hosts == 1 {
		share = 200
	}
	needed := float64(hosts*share/100) * float64(p.number("HostCpu")) / 1024
	if p.value("Sandbox") == "true" {
		needed += 0.25
	}
	code, service := fargateQuota, fargateService
	has := 0.0
	out, err := p.quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: &service, QuotaCode: &code})
	if _, unset := errors.AsType[*quotatypes.NoSuchResourceException](err); unset {
		d, failed := p.quotas.GetAWSDefaultServiceQuota(ctx, &servicequotas.GetAWSDefaultServiceQuotaInput{ServiceCode: &service, QuotaCode: &code})
		if err = failed; err == nil && d.Quota != nil {
			has = aws.ToFloat64(d.Quota.Value)
		}
	} else if err == nil && out.Quota != nil {
		has = aws.ToFloat64(out.Quota.Value)
	}
	if err != nil || has == 0 {
		p.note("Fargate's quota could not be looked up: %s.", plainly(cmp.Or(err, errors.New("no answer"))))
		return
	}
	if needed > has {
		p.refuse("A deploy runs session hosts of %g vCPUs at one time, and the account may run %g: lower HostCount or HostCpu, or ask for more (Service Quotas, %s).", needed, has, fargateQuota)
	}
}

// peppers looks whether the secret has the entries that the functions are to
// read.
func (p *preflight) peppers(ctx context.Context) {
	if p.stack == nil {
		return
	}
	arn := p.stack.outputs["PepperArn"]
	entries, err := p.pepperEntries(ctx, arn)
	if err != nil {
		p.refuse("The pepper %s can't be read: %s.", arn, plainly(err))
		return
	}
	for _, name := range []string{"PepperVersion", "PreviousPepperVersion"} {
		version := p.value(name)
		if version != "0" && entries[version] == "" {
			p.refuse("%s is %s, and the secret %s has no such entry.", name, version, arn)
		}
	}
}

// pepperEntries are the entries of the secret, by version.
func (c *Client) pepperEntries(ctx context.Context, arn string) (map[string]string, error) {
	out, err := c.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &arn})
	if err != nil {
		return nil, err
	}
	var entries map[string]string
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &entries); err != nil {
		return nil, errors.New("it is no JSON object of texts") // the error would show a part of it
	}
	return entries, nil
}

// eventQueues looks whether queues of the operator's own can be sent to.
func (p *preflight) eventQueues(ctx context.Context) {
	keys := p.texts("ExtraEventQueueKeyArns")
	for _, url := range p.texts("ExtraEventQueueUrls") {
		out, err := p.queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameKmsMasterKeyId},
		})
		if err != nil {
			p.refuse("The queue %s can't be looked at: %s.", url, plainly(err))
			continue
		}
		key := out.Attributes[string(sqstypes.QueueAttributeNameKmsMasterKeyId)]
		if key == "" || key == "alias/aws/sqs" {
			continue
		}
		if !slices.ContainsFunc(keys, func(arn string) bool { return strings.HasSuffix(arn, key) }) && (!strings.HasPrefix(key, "alias/") || len(keys) == 0) {
			p.refuse("The queue %s is under the key %s, which must stand in ExtraEventQueueKeyArns.", url, key)
		}
	}
}
