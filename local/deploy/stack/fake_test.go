package stack

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

const (
	region  = "eu-central-1"
	account = "123456789012"
	stackID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/acme/0b6f1c2e"
	pepper  = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:acme/pepper/0b6f1c2e-AbCdEf"
)

// fake is AWS, as far as this package asks it, over the services' own protocols.
// A member that is not set is an account that is a few minutes old, with nothing
// in it.
type fake struct {
	t *testing.T

	stack       string // status; empty: none
	parameters  map[string]string
	outputs     map[string]string
	named       map[string]string // logical ids, by physical
	has         [][2]string       // type and id of the stack's resources
	tables      map[string]bool   // name and protection
	linked      int
	concurrency [2]int             // all, unreserved
	vcpus       map[string]float64 // "set" and "default"; zero: refused
	peppers     string
	queueKeys   map[string]string // key by the queue's name
	copies      []string          // regions of the pepper's
	changes     [][3]string       // action, name, type
	refuses     string            // call that fails
	vanishes    bool              // the stack is gone once its deletion has begun

	mu    sync.Mutex
	calls []string // that change something
}

// client is a client of it.
func (f *fake) client() *Client {
	f.t.Helper()
	server := httptest.NewServer(f)
	f.t.Cleanup(server.Close)
	return Open(aws.Config{
		Region: region, BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
		RetryMaxAttempts: 1,
	})
}

// did lists what was changed, in order.
func (f *fake) did() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.calls, "; ")
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		var in map[string]any
		if err := json.Unmarshal(body, &in); err != nil {
			f.t.Errorf("%s: %v", target, err)
		}
		_, operation, _ := strings.Cut(target, ".")
		f.json(w, operation, in)
		return
	}
	if r.Method == http.MethodGet {
		f.lambda(w, r)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		f.t.Error(err)
	}
	w.Header().Set("Content-Type", "text/xml")
	f.query(w, form)
}

func (f *fake) lambda(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/account-settings") && !strings.HasSuffix(r.URL.Path, "/account-settings/") {
		f.t.Errorf("not known: %s", r.URL)
	}
	fmt.Fprintf(w, `{"AccountLimit":{"ConcurrentExecutions":%d,"UnreservedConcurrentExecutions":%d}}`, f.concurrency[0], f.concurrency[1])
}

func (f *fake) json(w http.ResponseWriter, operation string, in map[string]any) {
	refuse := func(code string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type":%q,"message":"no"}`, code)
	}
	if operation == f.refuses {
		refuse("AccessDeniedException")
		return
	}
	var out any = struct{}{}
	switch operation {
	case "DescribeTable":
		name := in["TableName"].(string)
		protected, ok := f.tables[name]
		if !ok {
			refuse("ResourceNotFoundException")
			return
		}
		out = map[string]any{"Table": map[string]any{"TableName": name, "DeletionProtectionEnabled": protected}}
	case "UpdateTable":
		f.note("table %v protected %v", in["TableName"], in["DeletionProtectionEnabled"])
		out = map[string]any{"TableDescription": map[string]any{}}
	case "Scan":
		if _, ok := f.tables[in["TableName"].(string)]; !ok {
			refuse("ResourceNotFoundException")
			return
		}
		out = map[string]any{"Count": f.linked, "ScannedCount": f.linked}
	case "GetServiceQuota":
		if f.vcpus["set"] == 0 {
			refuse("NoSuchResourceException")
			return
		}
		out = map[string]any{"Quota": map[string]any{"Value": f.vcpus["set"]}}
	case "GetAWSDefaultServiceQuota":
		if f.vcpus["default"] == 0 {
			refuse("AccessDeniedException")
			return
		}
		out = map[string]any{"Quota": map[string]any{"Value": f.vcpus["default"]}}
	case "GetSecretValue":
		if in["SecretId"] != pepper {
			refuse("ResourceNotFoundException")
			return
		}
		out = map[string]any{"SecretString": f.peppers}
	case "DescribeSecret":
		var copies []map[string]string
		for _, c := range f.copies {
			copies = append(copies, map[string]string{"Region": c})
		}
		out = map[string]any{"ReplicationStatus": copies}
	case "RemoveRegionsFromReplication":
		f.note("copies removed %v", in["RemoveReplicaRegions"])
	case "DeleteSecret":
		f.note("secret %v in %v days, at once %v", in["SecretId"], in["RecoveryWindowInDays"], in["ForceDeleteWithoutRecovery"])
	case "ScheduleKeyDeletion":
		f.note("key %v in %v days", in["KeyId"], in["PendingWindowInDays"])
	case "GetQueueAttributes":
		url := in["QueueUrl"].(string)
		out = map[string]any{"Attributes": map[string]string{"KmsMasterKeyId": f.queueKeys[url[strings.LastIndex(url, "/")+1:]]}}
	default:
		f.t.Errorf("not known: %s", operation)
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		f.t.Error(err)
	}
}

func (f *fake) query(w http.ResponseWriter, form url.Values) {
	action := form.Get("Action")
	refuse := func(code, message string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, code, message)
	}
	if action == f.refuses {
		refuse("AccessDenied", "no")
		return
	}
	result := ""
	switch action {
	case "GetCallerIdentity":
		result = "<Account>" + account + "</Account>"
	case "DescribeStacks":
		if f.stack == "" {
			refuse("ValidationError", "Stack with id acme does not exist")
			return
		}
		var b strings.Builder
		fmt.Fprintf(&b, "<Stacks><member><StackId>%s</StackId><StackName>acme</StackName><StackStatus>%s</StackStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime><Parameters>", stackID, f.stack)
		for name, v := range f.parameters {
			fmt.Fprintf(&b, "<member><ParameterKey>%s</ParameterKey><ParameterValue>%s</ParameterValue></member>", name, v)
		}
		b.WriteString("</Parameters><Outputs>")
		for name, v := range f.outputs {
			fmt.Fprintf(&b, "<member><OutputKey>%s</OutputKey><OutputValue>%s</OutputValue></member>", name, v)
		}
		b.WriteString("</Outputs></member></Stacks>")
		result = b.String()
	case "ListStackResources":
		var b strings.Builder
		b.WriteString("<StackResourceSummaries>")
		for _, r := range f.has {
			fmt.Fprintf(&b, "<member><LogicalResourceId>%s</LogicalResourceId><ResourceType>%s</ResourceType><PhysicalResourceId>%s</PhysicalResourceId><ResourceStatus>CREATE_COMPLETE</ResourceStatus></member>", f.named[r[1]], r[0], r[1])
		}
		result = b.String() + "</StackResourceSummaries>"
	case "UpdateTerminationProtection":
		f.note("termination protected %s", form.Get("EnableTerminationProtection"))
	case "DeleteStack":
		f.note("delete %s", form.Get("StackName"))
		f.stack = "DELETE_FAILED"
		if f.vanishes {
			f.stack = "DELETE_COMPLETE"
		}
	case "DescribeStackEvents":
		result = "<StackEvents><member><LogicalResourceId>Gateway</LogicalResourceId><ResourceType>AWS::EC2::InternetGateway</ResourceType><ResourceStatus>DELETE_FAILED</ResourceStatus><ResourceStatusReason>has mapped public addresses</ResourceStatusReason></member></StackEvents>"
	case "CreateChangeSet":
		previous, image := 0, ""
		for i := 1; form.Has(fmt.Sprintf("Parameters.member.%d.ParameterKey", i)); i++ {
			at := fmt.Sprintf("Parameters.member.%d.", i)
			if form.Get(at+"UsePreviousValue") == "true" {
				previous++
			} else {
				image += form.Get(at+"ParameterKey") + "=" + form.Get(at+"ParameterValue")
			}
		}
		f.note("change set: previous template %s, %d previous values, %s", form.Get("UsePreviousTemplate"), previous, image)
	case "DescribeChangeSet":
		var b strings.Builder
		b.WriteString("<Status>CREATE_COMPLETE</Status><Changes>")
		for _, c := range f.changes {
			fmt.Fprintf(&b, "<member><Type>Resource</Type><ResourceChange><Action>%s</Action><LogicalResourceId>%s</LogicalResourceId><ResourceType>%s</ResourceType></ResourceChange></member>", c[0], c[1], c[2])
		}
		result = b.String() + "</Changes>"
	case "ExecuteChangeSet":
		f.note("executed")
		f.stack = "UPDATE_COMPLETE"
	case "DeleteChangeSet":
		f.note("change set deleted")
	default:
		f.t.Errorf("not known: %s", action)
	}
	fmt.Fprintf(w, "<%sResponse><%sResult>%s</%sResult></%sResponse>", action, action, result, action, action)
}
