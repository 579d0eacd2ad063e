package deploytest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"whatisup/local/gateway/template"
)

// statement is one of a role's, with its stars.
type statement struct {
	effect             string
	actions, resources []string
}

func (s statement) covers(action, arn string) bool {
	return slices.ContainsFunc(s.actions, func(p string) bool { return glob(p, action) }) &&
		slices.ContainsFunc(s.resources, func(p string) bool { return glob(p, arn) })
}

// glob matches as IAM does: a star crosses everything.
func glob(pattern, text string) bool {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(text)
}

func rolesOf(t *testing.T, boundary string) map[string][]statement {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "local", "deploy", "stack", "roles.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := template.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	known := template.Values{
		"AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws",
		"DeployerTrust": "arn:aws:iam::123456789012:role/pipeline", "PermissionsBoundaryArn": boundary,
		"CloudFormationRole.Arn": "arn:aws:iam::123456789012:role/whatisup-cloudformation",
	}
	roles := make(map[string][]statement)
	for _, r := range d.OfType("AWS::IAM::Role") {
		for _, p := range resolve(t, d, r.Properties["Policies"], known).([]any) {
			for _, s := range p.(map[string]any)["PolicyDocument"].(map[string]any)["Statement"].([]any) {
				st := s.(map[string]any)
				roles[r.Name] = append(roles[r.Name], statement{fmt.Sprint(st["Effect"]), texts(st["Action"]), texts(st["Resource"])})
			}
		}
	}
	return roles
}

// creates is the call that makes a resource of a type, and the ARN it is on; %s is
// the resource's name.
var creates = map[string][2]string{
	"AWS::Serverless::Function":             {"lambda:CreateFunction", "arn:aws:lambda:eu-central-1:123456789012:function:%s"},
	"AWS::Serverless::HttpApi":              {"apigateway:POST", "arn:aws:apigateway:eu-central-1::/apis"},
	"AWS::ApiGatewayV2::DomainName":         {"apigateway:POST", "arn:aws:apigateway:eu-central-1::/domainnames"},
	"AWS::ApiGatewayV2::ApiMapping":         {"apigateway:POST", "arn:aws:apigateway:eu-central-1::/domainnames/a/apimappings"},
	"AWS::CloudFront::Distribution":         {"cloudfront:CreateDistribution", "arn:aws:cloudfront::123456789012:distribution/*"},
	"AWS::DynamoDB::Table":                  {"dynamodb:CreateTable", "arn:aws:dynamodb:eu-central-1:123456789012:table/%s"},
	"AWS::SQS::Queue":                       {"sqs:CreateQueue", "arn:aws:sqs:eu-central-1:123456789012:%s"},
	"AWS::SQS::QueuePolicy":                 {"sqs:SetQueueAttributes", "arn:aws:sqs:eu-central-1:123456789012:whatisup-events"},
	"AWS::S3::Bucket":                       {"s3:CreateBucket", "arn:aws:s3:::%s"},
	"AWS::S3::BucketPolicy":                 {"s3:PutBucketPolicy", "arn:aws:s3:::whatisup-media-123456789012-eu-central-1"},
	"AWS::SNS::Topic":                       {"sns:CreateTopic", "arn:aws:sns:eu-central-1:123456789012:%s"},
	"AWS::SNS::TopicPolicy":                 {"sns:SetTopicAttributes", "arn:aws:sns:eu-central-1:123456789012:whatisup-alarms"},
	"AWS::SNS::Subscription":                {"sns:Subscribe", "arn:aws:sns:eu-central-1:123456789012:whatisup-alarms"},
	"AWS::SecretsManager::Secret":           {"secretsmanager:CreateSecret", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:%s-AbCdEf"},
	"AWS::KMS::Key":                         {"kms:CreateKey", "*"},
	"AWS::KMS::Alias":                       {"kms:CreateAlias", "arn:aws:kms:eu-central-1:123456789012:%s"},
	"AWS::ECR::Repository":                  {"ecr:CreateRepository", "arn:aws:ecr:eu-central-1:123456789012:repository/%s"},
	"AWS::ECS::Cluster":                     {"ecs:CreateCluster", "arn:aws:ecs:eu-central-1:123456789012:cluster/%s"},
	"AWS::ECS::Service":                     {"ecs:CreateService", "arn:aws:ecs:eu-central-1:123456789012:service/whatisup/%s"},
	"AWS::ECS::TaskDefinition":              {"ecs:RegisterTaskDefinition", "arn:aws:ecs:eu-central-1:123456789012:task-definition/%s:1"},
	"AWS::IAM::Role":                        {"iam:CreateRole", "arn:aws:iam::123456789012:role/whatisup-%s-1A2B"},
	"AWS::Logs::LogGroup":                   {"logs:CreateLogGroup", "arn:aws:logs:eu-central-1:123456789012:log-group:%s:*"},
	"AWS::Logs::MetricFilter":               {"logs:PutMetricFilter", "arn:aws:logs:eu-central-1:123456789012:log-group:/ecs/whatisup:*"},
	"AWS::CloudWatch::Alarm":                {"cloudwatch:PutMetricAlarm", "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:%s"},
	"AWS::Events::Rule":                     {"events:PutRule", "arn:aws:events:eu-central-1:123456789012:rule/whatisup-%s-1A2B"},
	"AWS::Budgets::Budget":                  {"budgets:ModifyBudget", "arn:aws:budgets::123456789012:budget/whatisup-month"},
	"AWS::EC2::VPC":                         {"ec2:CreateVpc", "*"},
	"AWS::EC2::InternetGateway":             {"ec2:CreateInternetGateway", "*"},
	"AWS::EC2::VPCGatewayAttachment":        {"ec2:AttachInternetGateway", "*"},
	"AWS::EC2::Subnet":                      {"ec2:CreateSubnet", "*"},
	"AWS::EC2::RouteTable":                  {"ec2:CreateRouteTable", "*"},
	"AWS::EC2::Route":                       {"ec2:CreateRoute", "*"},
	"AWS::EC2::SubnetRouteTableAssociation": {"ec2:AssociateRouteTable", "*"},
	"AWS::EC2::VPCEndpoint":                 {"ec2:CreateVpcEndpoint", "*"},
	"AWS::EC2::SecurityGroup":               {"ec2:CreateSecurityGroup", "*"},
}

// names are the properties that name a resource.
var names = []string{"BucketName", "FunctionName", "TableName", "QueueName", "TopicName", "Name", "AliasName", "RepositoryName", "ClusterName", "ServiceName", "Family", "LogGroupName", "AlarmName"}

// TestCloudFormationRole holds that the role which CloudFormation is given can make
// everything that the template declares, by name, and nothing of another stack.
func TestCloudFormationRole(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, full)
	statements := rolesOf(t, "")["CloudFormationRole"]
	may := func(action, arn string) bool {
		allowed := false
		for _, s := range statements {
			if s.covers(action, arn) {
				if s.effect == "Deny" {
					return false
				}
				allowed = true
			}
		}
		return allowed
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range d.Resources {
			if !yield(name) {
				return
			}
		}
	}) {
		r := d.Resources[name]
		made, ok := creates[r.Type]
		if !ok {
			t.Errorf("%s: what does it take to make a %s?", name, r.Type)
			continue
		}
		arn := made[1]
		if strings.Contains(arn, "%s") {
			called := any(name)
			for _, property := range names {
				if v, ok := r.Properties[property]; ok {
					called = resolve(t, d, v, known)
					break
				}
			}
			arn = fmt.Sprintf(arn, called)
		}
		if !may(made[0], arn) {
			t.Errorf("%s: CloudFormation may not %s on %s", name, made[0], arn)
		}
		if other := strings.ReplaceAll(arn, "whatisup", "production"); other != arn && may(made[0], other) {
			t.Errorf("%s: CloudFormation may also %s on %s", name, made[0], other)
		}
	}
	for action, arn := range map[string]string{
		"iam:PutRolePolicy": "arn:aws:iam::123456789012:role/whatisup-cloudformation",
		"iam:CreateUser":    "arn:aws:iam::123456789012:user/whatisup-x",
		"iam:PassRole":      "arn:aws:iam::123456789012:role/administrator",
		"s3:PutObject":      "arn:aws:s3:::somewhere/x",
	} {
		if may(action, arn) {
			t.Errorf("CloudFormation may %s on %s", action, arn)
		}
	}
}

// TestDeployerRole holds that a deployer asks CloudFormation, and makes nothing.
func TestDeployerRole(t *testing.T) {
	t.Parallel()
	for _, s := range rolesOf(t, "")["DeployerRole"] {
		for _, action := range s.actions {
			service, verb, _ := strings.Cut(action, ":")
			if verb == "*" || service == "iam" && action != "iam:PassRole" || service == "kms" || service == "ec2" {
				t.Errorf("a deployer may %s", action)
			}
			if slices.Contains([]string{"dynamodb", "secretsmanager", "lambda"}, service) && !strings.HasPrefix(verb, "Get") && !strings.HasPrefix(verb, "Describe") {
				t.Errorf("a deployer may %s", action)
			}
			if action == "iam:PassRole" && !slices.Equal(s.resources, []string{"arn:aws:iam::123456789012:role/whatisup-cloudformation"}) {
				t.Errorf("a deployer may hand over %v", s.resources)
			}
		}
	}
}
