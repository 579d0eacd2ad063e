package local_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// nameOf is the name of a chat in the list; nil: it has none.
func (a *asker) nameOf(chat string) *string {
	a.t.Helper()
	var list struct{ Data []chatView }
	a.Must(200, "GET", a.path+"/chats", "", &list)
	for _, c := range list.Data {
		if c.Chat == chat {
			return c.Name
		}
	}
	a.t.Fatalf("%s is not in %+v", chat, list)
	return nil
}

func (a *asker) awaitName(chat, want string) {
	a.t.Helper()
	localtest.Await(a.t, "the name "+want, func() bool {
		name := a.nameOf(chat)
		return name != nil && *name == want
	})
}

// forget takes away the name that is kept of a group, and connects anew, so that nothing
// knows it any more.
func (a *asker) forget(chat string) {
	t := a.t
	t.Helper()
	a.Must(202, "POST", a.path+"/disconnect", "", nil)
	a.AwaitStatus(a.id, "disconnected")
	client := dynamodb.NewFromConfig(a.stack.AWSConf)
	name, removed := dynamo.Local().Messages, 0
	rows, err := client.Scan(t.Context(), &dynamodb.ScanInput{
		TableName: &name, FilterExpression: aws.String("begins_with(sk, :n)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":n": &types.AttributeValueMemberS{Value: "n#"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows.Items {
		removed++
		if _, err := client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &name, Key: map[string]types.AttributeValue{"pk": row["pk"], "sk": row["sk"]}}); err != nil {
			t.Fatal(err)
		}
	}
	if removed != 1 {
		t.Fatalf("%d names were kept", removed)
	}
	a.Must(202, "POST", a.path+"/connect", "", nil)
	a.AwaitStatus(a.id, "connected")
	if name := a.nameOf(chat); name != nil {
		t.Fatalf("the forgotten name is %q", *name)
	}
}

// A group's name is in the list of chats, however it was learnt: by coming into the group,
// by a new subject, by the history on the phone, by reading groups, and with a message.
// The list itself asks WhatsApp nothing.
func TestNamesOfGroupsInChats(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann = "4915111111111"
	write := func(group, text string) {
		t.Helper()
		if _, err := a.simulator.Write(t.Context(), whatsapp.Writing{Text: whatsapp.Text{World: a.world, From: ann, Text: text}, Group: group}); err != nil {
			t.Fatal(err)
		}
	}
	group := a.act(whatsapp.Action{PhoneNumber: ann, Kind: "create_group", Subject: "Orders", Members: []string{a.number}}).Group.ID
	write(group, "hi")
	var list struct{ Data []chatView }
	localtest.Await(t, "the chat", func() bool {
		a.Must(200, "GET", a.path+"/chats", "", &list)
		return len(list.Data) == 1 && list.Data[0].ChatType == string(whatisup.ChatGroup)
	})
	a.awaitName(group, "Orders")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "settings", Group: group, Subject: "Sales"})
	a.awaitName(group, "Sales")

	asked := a.asked("w:g2")
	a.forget(group)
	a.act(whatsapp.Action{PhoneNumber: a.number, Kind: "sync", Name: "Shop"})
	a.awaitName(group, "Sales")
	if n := a.asked("w:g2") - asked; n != 0 {
		t.Errorf("WhatsApp was asked %d times, and the history tells the name", n)
	}

	a.forget(group)
	for i := range 3 {
		write(group, fmt.Sprint("again ", i))
	}
	a.awaitName(group, "Sales")
	write(group, "and again")
	localtest.Await(t, "the last message", func() bool {
		a.Must(200, "GET", a.path+"/chats", "", &list)
		return list.Data[0].Unread == 5
	})
	if n := a.asked("w:g2") - asked; n != 1 {
		t.Errorf("WhatsApp was asked %d times for four messages", n)
	}

	a.forget(group)
	a.Must(200, "GET", a.path+"/groups", "", nil)
	a.awaitName(group, "Sales")
}
