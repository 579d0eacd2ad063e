package local_test

import (
	"fmt"
	"testing"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

type chatView struct {
	Chat     string
	ChatType string  `json:"chat_type"`
	Name     *string `json:"name"`
	human
	LastMessage struct {
		ID        string `json:"message_id"`
		Direction string
		Status    string
	} `json:"last_message"`
	Unread int
}

// The list of chats has each once, under its latest id, with what is unread.
func TestChatsAreListed(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	instance := m.path[:len(m.path)-len("/messages")]
	write := func(from string) {
		m.Must(202, "POST", "/v1/sandbox"+instance[len("/v1"):]+"/messages", fmt.Sprintf(`{"from":%q,"text":"hi"}`, from), nil)
	}
	var list struct {
		Data []chatView
		Next *string `json:"next_cursor"`
	}
	await := func(what string, done func() bool) {
		t.Helper()
		localtest.Await(t, what, func() bool {
			m.Must(200, "GET", instance+"/chats", "", &list)
			return done()
		}, func() string { return fmt.Sprintf("%+v", list) })
	}

	sent := m.send(text("+55 11 98765-4321", "first"))
	m.await(sent.ID, "read")
	await("the chat of a sent message", func() bool {
		return len(list.Data) == 1 && list.Data[0].LastMessage.ID == sent.ID && list.Data[0].LastMessage.Status == "read" &&
			list.Data[0].Unread == 0 && list.Data[0].is("5511987654321") && list.Data[0].LID != nil && list.Data[0].Chat == *list.Data[0].LID+"@lid"
	})
	write("5511987654321")
	write("5511987654321")
	await("two unread messages in the same chat", func() bool { return len(list.Data) == 1 && list.Data[0].Unread == 2 })
	write("4915111111111")
	await("a second chat, on top", func() bool {
		return len(list.Data) == 2 && list.Data[0].is("4915111111111") && list.Data[0].Unread == 1 && list.Data[0].LastMessage.Direction == "in"
	})
	m.Must(200, "GET", instance+"/chats?limit=1", "", &list)
	if len(list.Data) != 1 || list.Next == nil {
		t.Fatalf("a page of one: %+v", list)
	}
	m.Must(200, "GET", instance+"/chats?limit=1&cursor="+*list.Next, "", &list)
	if len(list.Data) != 1 || list.Next != nil || !list.Data[0].is("5511987654321") {
		t.Fatalf("the next page: %+v", list)
	}
	m.Must(204, "POST", instance+"/chats/5511987654321/read", "{}", nil)
	await("nothing unread in the chat that was read", func() bool {
		return len(list.Data) == 2 && list.Data[1].Unread == 0 && list.Data[0].Unread == 1
	})
}

// Each member of a group has its own times.
func TestRecipientsOfAGroup(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)
	const ann, ben = "4915111111111", "4915122222222"
	manual := whatsapp.ReadsManual
	if _, err := s.Simulator.SetPhone(world, ben, whatsapp.Behaviour{Reads: &manual}); err != nil {
		t.Fatal(err)
	}
	sent := m.send(text(groupOf(t, s, m, "lid", ann, ben), "hi"))
	var got struct {
		Recipients struct {
			Total, Delivered, Read int
			List                   []struct {
				human
				DeliveredAt *string `json:"delivered_at"`
				ReadAt      *string `json:"read_at"`
			}
		}
	}
	localtest.Await(t, "Ann has read it and Ben has got it", func() bool {
		m.Must(200, "GET", m.path+"/"+sent.ID+"?include=recipients", "", &got)
		r := &got.Recipients
		if r.Total != 2 || r.Delivered != 2 || r.Read != 1 || len(r.List) != 2 {
			return false
		}
		for _, one := range r.List {
			if one.DeliveredAt == nil && one.ReadAt == nil || one.is(ann) != (one.ReadAt != nil) || !one.is(ann) && !one.is(ben) {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("%+v", got) })
	m.Must(400, "GET", m.path+"/"+sent.ID+"?include=all", "", nil)
}
