package move

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"whatisup/sessionhost/devicestore"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/queue"
	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// Side is one of the two deployments.
type Side struct {
	Name    string // as people call it
	AWS     aws.Config
	Tables  dynamo.Tables // SandboxDevices: where test links are, if not in Devices
	Keys    map[whatisup.Mode]string
	Webhook string // the KMS key of webhooks' secrets
	Bucket  string
	Queues  string // how the names of the queues begin
	Peppers whatisup.Peppers
}

func (s *Side) db() *dynamodb.Client { return dynamodb.NewFromConfig(s.AWS) }
func (s *Side) rows() *dynamo.DB {
	return dynamo.New(dynamo.Config{Client: s.db(), Tables: s.Tables})
}
func (s *Side) bucket() *bucket.Bucket {
	return bucket.New(bucket.Config{AWS: s.AWS, Name: s.Bucket})
}
func (s *Side) devices(m whatisup.Mode) string {
	if m == whatisup.Test && s.Tables.SandboxDevices != "" {
		return s.Tables.SandboxDevices
	}
	return s.Tables.Devices
}

// ErrRefused says that nothing was changed, and why.
var ErrRefused = errors.New("nothing was moved")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// A host that has not written its lease for so long has lost it, wherever it is.
const leaseOver = time.Minute

type mover struct {
	from, to *Side
	modes    []whatisup.Mode
	say      func(format string, args ...any)
	self     dynamo.Move // as the source keeps it
	here     string      // the source's id
	queueURL map[string]string
}

// Run moves the customers of from, with what they have in the modes, to to, and says what
// it does. It can be run again after it died or failed, and when it is done already; see
// the package's text. [ErrRefused] is an error before anything was written.
func Run(ctx context.Context, from, to *Side, modes []whatisup.Mode, say func(format string, args ...any)) error {
	m := &mover{from: from, to: to, modes: modes, say: say, queueURL: map[string]string{}}
	begun, done, err := m.look(ctx)
	if err != nil || done {
		return err
	}
	if !begun {
		if err := m.copy(ctx); err != nil {
			return err
		}
		if err := m.leave(ctx); err != nil {
			return err
		}
	}
	if err := m.queues(ctx); err != nil {
		return err
	}
	if err := m.land(ctx); err != nil {
		return err
	}
	return m.end(ctx)
}

// look refuses what can't be moved, and finds out how far an earlier run has come.
func (m *mover) look(ctx context.Context) (begun, done bool, err error) {
	source, target := m.from.rows(), m.to.rows()
	here, err := source.DeploymentID(ctx)
	if err != nil {
		return false, false, err
	}
	there, err := target.DeploymentID(ctx)
	if err != nil {
		return false, false, err
	}
	if here == there {
		return false, false, refuse("%s and %s are the same", m.from.Name, m.to.Name)
	}
	m.here = here
	m.self = dynamo.Move{Other: there, Name: m.to.Name, Modes: m.modes, Begun: time.Now()}
	away, err := source.MovedAway(ctx)
	if err != nil {
		return false, false, err
	}
	if away != nil {
		if away.Other != there || !slices.Equal(away.Modes, m.modes) {
			return false, false, refuse("the customers of %s were moved to %s (%v) on %s", m.from.Name, away.Name, away.Modes, away.Begun.UTC().Format(time.DateTime))
		}
		if away.Done {
			m.say("all of %s was moved to %s already, on %s", m.from.Name, away.Name, away.Begun.UTC().Format(time.DateTime))
			return true, true, nil
		}
		m.self.Begun = away.Begun
		return true, false, nil
	}
	for _, mode := range m.modes {
		if err := free(ctx, source, mode); err != nil {
			return false, false, err
		}
		if m.to.Keys[mode] == "" {
			return false, false, refuse("%s serves no %s links", m.to.Name, mode)
		}
	}
	for r, err := range scan(ctx, m.from.db(), m.from.Tables.Access) {
		if err != nil {
			return false, false, err
		}
		if version, usable := dynamo.KeyPepper(r); usable && m.pepper(version) == 0 {
			return false, false, refuse("%s does not know the pepper (version %d) that API keys of %s are hashed with, and would refuse them: add it there first, as OPERATIONS.md tells under Move", m.to.Name, version, m.from.Name)
		}
		c := dynamo.CustomerOfRow(r)
		if c == "" {
			continue
		}
		switch _, err := target.Customer(ctx, c); {
		case err == nil:
			return false, false, refuse("%s has the customer %s already, and nothing is overwritten", m.to.Name, c)
		case !errors.Is(err, whatisup.ErrNotFound):
			return false, false, err
		}
	}
	return false, false, nil
}

// free refuses while a host has a lease of the mode.
func free(ctx context.Context, db *dynamo.DB, mode whatisup.Mode) error {
	leases, err := db.Leases(ctx, mode)
	if err != nil {
		return err
	}
	owners, err := db.OwnersAlive(ctx, mode)
	if err != nil {
		return err
	}
	for i, l := range leases {
		if l.Owner != "" && time.Since(owners[i].Seen) < leaseOver {
			return refuse("the session host %s is running, or ended less than %v ago without giving its shards up: stop it, or wait", l.Owner, leaseOver)
		}
	}
	return nil
}

// pepper is the version under which the target knows a pepper of the source, 0 for none.
func (m *mover) pepper(version int) int {
	for v, secret := range m.to.Peppers {
		if secret == m.from.Peppers[version] {
			return v
		}
	}
	return 0
}

// copy takes everything to the target that is not seen there yet.
func (m *mover) copy(ctx context.Context) error {
	// A target of its own starts no host before the move is done.
	back := dynamo.Move{Other: m.here, Name: m.from.Name, Modes: m.modes, Begun: m.self.Begun}
	if err := m.to.rows().SetMovedHere(ctx, back); err != nil {
		return err
	}
	if err := m.devices(ctx); err != nil {
		return err
	}
	a, b := m.from.Tables, m.to.Tables
	for _, t := range []struct {
		from, to string
		sorted   bool
	}{{a.Messages, b.Messages, true}, {a.Media, b.Media, true}, {a.Webhooks, b.Webhooks, true}, {a.Events, b.Events, true}, {a.Calls, b.Calls, false}} {
		c := newCopier(m.to.db(), t.to, t.sorted)
		for r, err := range scan(ctx, m.from.db(), t.from) {
			if err == nil && a.Moves(t.from, r, m.modes) {
				if t.from == a.Webhooks {
					err = m.rewrap(ctx, r)
				}
				if err == nil {
					err = c.put(ctx, r)
				}
			}
			if err != nil {
				return err
			}
		}
		n, err := c.done(ctx)
		if err != nil {
			return err
		}
		m.say("%s: %d rows", t.from, n)
	}
	return m.files(ctx)
}

// rewrap gives an endpoint's row its data key under the target's KMS key.
func (m *mover) rewrap(ctx context.Context, r row) error {
	customer, id, wrapped, ok := dynamo.EndpointOfRow(r)
	if !ok {
		return nil
	}
	ring := seal.NewKeyring(kms.NewFromConfig(m.from.AWS), m.from.Webhook)
	_, again, err := ring.Rewrap(ctx, kms.NewFromConfig(m.to.AWS), m.to.Webhook, seal.Owner{CustomerID: string(customer), InstanceID: string(id)}, wrapped)
	if err != nil {
		return fmt.Errorf("the secret of the endpoint %s: %w", id, err)
	}
	dynamo.SetDataKey(r, again)
	return nil
}

// devices copies the links.
func (m *mover) devices(ctx context.Context) error {
	links, rows := 0, 0
	seen := map[whatisup.Ref]bool{}
	for r, err := range scan(ctx, m.from.db(), m.from.Tables.Instances) {
		if err != nil {
			return err
		}
		ref, first := dynamo.RefOfRow(r)
		if !first || seen[ref] || !m.from.Tables.Moves(m.from.Tables.Instances, r, m.modes) {
			continue
		}
		seen[ref] = true
		move := devicestore.Mover{
			DynamoDB: m.from.db(), Keyring: seal.NewKeyring(kms.NewFromConfig(m.from.AWS), m.from.Keys[ref.Mode]),
			Wrap: kms.NewFromConfig(m.to.AWS), WrapID: m.to.Keys[ref.Mode], From: m.from.devices(ref.Mode), To: m.to.devices(ref.Mode),
		}
		device, of, err := move.Rows(ctx, ref.ID, ref.Customer)
		if devicestore.IsCorrupt(err) {
			m.say("the link of the instance %s does not open, here or anywhere: it has to be scanned again (%v)", ref.ID, err)
			continue
		} else if err != nil {
			return fmt.Errorf("the link of the instance %s: %w", ref.ID, err)
		}
		if device == nil {
			continue
		}
		c := newCopier(m.to.db(), move.To, true)
		for _, r := range append(of, device) {
			if err := c.put(ctx, r); err != nil {
				return err
			}
		}
		n, err := c.done(ctx)
		if err != nil {
			return err
		}
		rows += n
		if len(of) > 0 {
			links++
		}
	}
	m.say("%s: %d links, %d rows", m.from.Tables.Devices, links, rows)
	return nil
}

// files copies objects. One that is there with its size was copied by an earlier run:
// objects are written once.
func (m *mover) files(ctx context.Context) error {
	from, to := m.from.bucket(), m.to.bucket()
	n, size := 0, int64(0)
	buffer := make([]byte, bucket.PartSize)
	for _, class := range whatisup.ObjectClasses {
		for _, mode := range m.modes {
			var failed error
			err := from.List(ctx, class.Prefix+"/"+string(mode)+"/", func(key string) bool {
				var one int64
				one, failed = copyFile(ctx, from, to, key, buffer)
				n, size = n+1, size+one
				return failed == nil
			})
			if err = errors.Join(err, failed); err != nil {
				return fmt.Errorf("files: %w", err)
			}
		}
	}
	m.say("files: %d, %.1f MB", n, float64(size)/1e6)
	return nil
}

func copyFile(ctx context.Context, from, to *bucket.Bucket, key string, buffer []byte) (int64, error) {
	body, size, err := from.Open(ctx, key, 0)
	if errors.Is(err, whatisup.ErrNotFound) {
		return 0, nil // its time was over
	} else if err != nil {
		return 0, err
	}
	defer body.Close()
	if there, err := to.Stat(ctx, key); err == nil && there.Size == size {
		return size, nil
	} else if err != nil && !errors.Is(err, whatisup.ErrNotFound) {
		return 0, err
	}
	if size <= bucket.PartSize {
		b, err := io.ReadAll(body)
		if err != nil {
			return 0, err
		}
		return size, to.Put(ctx, key, bytes.NewReader(b))
	}
	w := to.Writer(ctx, key, buffer)
	if _, err := io.Copy(w, body); err != nil {
		return 0, errors.Join(err, w.Abort())
	}
	return size, w.Commit()
}

// leave notes at the source where its customers go.
func (m *mover) leave(ctx context.Context) error {
	db := m.from.rows()
	for _, mode := range m.modes { // all that was copied meanwhile was nobody's
		if err := free(ctx, db, mode); err != nil {
			return err
		}
	}
	return db.SetMovedAway(ctx, m.self)
}

// land writes what makes instances, customers and keys.
func (m *mover) land(ctx context.Context) error {
	source, target := m.from.rows(), m.to.rows()
	t := m.from.Tables
	// All of them leave before one of them starts: a run that died in between ends it.
	byRef := map[whatisup.Ref][]row{}
	var order []whatisup.Ref
	for r, err := range scan(ctx, m.from.db(), t.Instances) {
		if err != nil {
			return err
		}
		if !t.Moves(t.Instances, r, m.modes) {
			continue
		}
		if err := source.TakeOutOfShard(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", t.Instances, err)
		}
		ref, _ := dynamo.RefOfRow(r)
		if byRef[ref] == nil {
			order = append(order, ref)
		}
		byRef[ref] = append(byRef[ref], dynamo.Landed(r, func(name string) string { return m.queueThere(ctx, name) }))
	}
	for _, ref := range order {
		if err := target.Land(ctx, byRef[ref]); err != nil {
			return fmt.Errorf("the instance %s: %w", ref.ID, err)
		}
	}
	m.say("%s: %d instances", t.Instances, len(order))

	var last, keys []row
	for _, table := range []string{t.Fleet, t.Access} {
		for r, err := range scan(ctx, m.from.db(), table) {
			switch {
			case err != nil:
				return err
			case !t.Moves(table, r, m.modes):
			case table == t.Access && dynamo.IsKey(r):
				keys = append(keys, r)
			default:
				last = append(last, r)
			}
		}
	}
	for _, r := range append(last, keys...) {
		table := m.to.Tables.Access
		if t.Moves(t.Fleet, r, m.modes) {
			table = m.to.Tables.Fleet
		}
		if version, _ := dynamo.KeyPepper(r); version > 0 {
			if there := m.pepper(version); there > 0 {
				dynamo.SetKeyPepper(r, there)
			}
		}
		if err := putNew(ctx, m.to.db(), table, r); err != nil {
			return err
		}
	}
	m.say("%s: %d rows, %d of them API keys", t.Access, len(last)+len(keys), len(keys))
	return nil
}

// putNew writes a row where there is none.
func putNew(ctx context.Context, db *dynamodb.Client, table string, r row) error {
	_, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: r, ConditionExpression: aws.String("attribute_not_exists(pk)")})
	if _, there := errors.AsType[*types.ConditionalCheckFailedException](err); there || err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", table, err)
}

// queueThere is the target's queue for one of the source's, by URL; empty: there is none.
func (m *mover) queueThere(ctx context.Context, url string) string {
	name, ok := strings.CutPrefix(url[strings.LastIndex(url, "/")+1:], m.from.Queues)
	if !ok {
		return ""
	}
	there, known := m.queueURL[name]
	if !known {
		out, err := sqs.NewFromConfig(m.to.AWS).GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(m.to.Queues + name)})
		if err == nil {
			there = aws.ToString(out.QueueUrl)
		}
		m.queueURL[name] = there
	}
	return there
}

// queues takes to the target what waits for webhooks. A message that is sent and not
// deleted is sent again: whoever takes it there finds the row of the first time.
func (m *mover) queues(ctx context.Context) error {
	names := queue.Local()
	for _, name := range []string{names.WebhookEvents, names.WebhookDeliveries} {
		name = strings.TrimPrefix(name, queue.LocalPrefix)
		client := sqs.NewFromConfig(m.from.AWS)
		out, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(m.from.Queues + name)})
		if _, none := errors.AsType[*sqstypes.QueueDoesNotExist](err); none {
			continue
		} else if err != nil {
			return fmt.Errorf("the queue %s: %w", name, err)
		}
		to := m.queueThere(ctx, *out.QueueUrl)
		if to == "" {
			return fmt.Errorf("%s has no queue %s", m.to.Name, m.to.Queues+name)
		}
		n, err := m.drain(ctx, client, *out.QueueUrl, to)
		if err != nil {
			return fmt.Errorf("the queue %s: %w", name, err)
		}
		m.say("%s%s: %d messages", m.from.Queues, name, n)
	}
	return nil
}

// drainWithin is longer than a message stays hidden that somebody took and died with.
const drainWithin = 5 * time.Minute

func (m *mover) drain(ctx context.Context, client *sqs.Client, from, to string) (n int, err error) {
	target := sqs.NewFromConfig(m.to.AWS)
	for until := time.Now().Add(drainWithin); ; {
		out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &from, MaxNumberOfMessages: 10, WaitTimeSeconds: 1,
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"MessageGroupId", "MessageDeduplicationId"}, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			return n, err
		}
		for _, msg := range out.Messages {
			group, id := msg.Attributes["MessageGroupId"], msg.Attributes["MessageDeduplicationId"]
			if _, err := target.SendMessage(ctx, &sqs.SendMessageInput{
				QueueUrl: &to, MessageBody: msg.Body, MessageGroupId: &group, MessageDeduplicationId: &id, MessageAttributes: msg.MessageAttributes,
			}); err != nil {
				return n, err
			}
			if _, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &from, ReceiptHandle: msg.ReceiptHandle}); err != nil {
				return n, err
			}
			n++
		}
		if len(out.Messages) > 0 {
			continue
		}
		left, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &from, AttributeNames: []sqstypes.QueueAttributeName{
			"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
		}})
		if err != nil {
			return n, err
		}
		if left.Attributes["ApproximateNumberOfMessages"] == "0" && left.Attributes["ApproximateNumberOfMessagesNotVisible"] == "0" {
			return n, nil
		}
		if time.Now().After(until) {
			return n, fmt.Errorf("messages are still in other hands: stop whoever reads it, and run the move again")
		}
	}
}

// end counts at both ends, and notes that the move is done.
func (m *mover) end(ctx context.Context) error {
	a, b := m.from.Tables, m.to.Tables
	for _, t := range [][2]string{{a.Instances, b.Instances}, {a.Access, b.Access}} {
		missing, n := 0, 0
		for r, err := range scan(ctx, m.from.db(), t[0]) {
			if err != nil {
				return err
			}
			if !a.Moves(t[0], r, m.modes) {
				continue
			}
			n++
			out, err := m.to.db().GetItem(ctx, &dynamodb.GetItemInput{
				TableName: &t[1], Key: row{"pk": r["pk"], "sk": r["sk"]}, ConsistentRead: aws.Bool(true), ProjectionExpression: aws.String("pk"),
			})
			if err != nil {
				return err
			}
			if len(out.Item) == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%s: %d of %d rows are not at the target: run the move again", t[0], missing, n)
		}
		m.say("%s: all of %d rows are at %s", t[0], n, m.to.Name)
	}
	here, err := m.to.rows().MovedHere(ctx)
	if err == nil && here != nil {
		here.Done = true
		err = m.to.rows().SetMovedHere(ctx, *here)
	}
	if err != nil {
		return err
	}
	m.self.Done = true
	return m.from.rows().SetMovedAway(ctx, m.self)
}
