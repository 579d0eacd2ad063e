package dynamo

import (
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

type item = map[string]types.AttributeValue

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
func boolean(b bool) types.AttributeValue {
	return &types.AttributeValueMemberBOOL{Value: b}
}
func number[N ~int | ~int64 | ~uint64](n N) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: fmt.Sprint(uint64(n))}
}

func key(pk, sk string) item { return item{attrPK: str(pk), attrSK: str(sk)} }

// partition is where a customer's instances stand, and its events.
func partition(c whatisup.CustomerID, m whatisup.Mode) string { return string(c) + "#" + string(m) }

const (
	suffixHost     = "#host"
	suffixMetadata = "#metadata"
	suffixDeleted  = "#deleted"
)

func configKey(c whatisup.CustomerID, m whatisup.Mode, i whatisup.InstanceID) item {
	return key(partition(c, m), string(i))
}

func metadataKey(c whatisup.CustomerID, m whatisup.Mode, i whatisup.InstanceID) item {
	return key(partition(c, m), string(i)+suffixMetadata)
}

func hostKey(c whatisup.CustomerID, m whatisup.Mode, i whatisup.InstanceID) item {
	return key(partition(c, m), string(i)+suffixHost)
}

func tombstoneKey(c whatisup.CustomerID, m whatisup.Mode, i whatisup.InstanceID) item {
	return key(partition(c, m)+suffixDeleted, string(i))
}

func shardKey(m whatisup.Mode, s whatisup.Shard) string {
	return string(m) + "#" + shardName(s)
}

func shardName(s whatisup.Shard) string { return fmt.Sprintf("%04d", int(s)) }

func pairingKey(i whatisup.InstanceID) item { return item{attrPK: str("pairing#" + string(i))} }

func resultKey(id whatisup.CommandID) item { return item{attrPK: str("result#" + string(id))} }

func changeKey(id whatisup.ChangeID) item { return item{attrPK: str("change#" + string(id))} }

func numberKey(i whatisup.InstanceID, n whatisup.PhoneNumber) item {
	return item{attrPK: str("number#" + string(i) + "#" + string(n))}
}

// EventPartition is the partition of a customer's events in the table of events.
func EventPartition(c whatisup.CustomerID, m whatisup.Mode) string { return partition(c, m) }

func eventKey(c whatisup.CustomerID, m whatisup.Mode, p whatisup.Position) item {
	return key(partition(c, m), string(p))
}

func leaseKey(m whatisup.Mode, s whatisup.Shard) item { return key(string(m)+"#lease", shardName(s)) }
func epochKey(m whatisup.Mode, s whatisup.Shard) item { return key(string(m)+"#epoch", shardName(s)) }
func fleetHostKey(m whatisup.Mode, host string) item  { return key(string(m)+"#host", host) }
func versionKey(m whatisup.Mode) item                 { return key(string(m)+"#client", "version") }

// DeviceKey is the key of an instance's device row in the devices table. Its
// other attributes belong to package devicestore.
func DeviceKey(i whatisup.InstanceID) map[string]types.AttributeValue {
	return key(string(i), "device")
}

// AuthPartition is the partition of everything else that one link keeps.
func AuthPartition(i whatisup.InstanceID, l whatisup.Link) string {
	return string(i) + "#" + strconv.FormatUint(uint64(l), 10)
}
