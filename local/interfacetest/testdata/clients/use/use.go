// Package use does with the generated clients what a user's program does: it must
// compile.
package use

import (
	"context"

	"clients/oapicodegen"
	"clients/ogen"
)

// Number returns the number of an instance, if the client by ogen finds one.
func Number(ctx context.Context, c *ogen.Client, id string) (string, bool) {
	got, err := c.GetInstance(ctx, ogen.GetInstanceParams{ID: id})
	if err != nil {
		return "", false
	}
	i, ok := got.(*ogen.GetInstanceOKHeaders)
	if !ok {
		return "", false
	}
	return i.Response.PhoneNumber.Get()
}

// Text returns the text of a message.received event, as ogen reads it.
func Text(e ogen.Event) (string, bool) {
	m, ok := e.GetMessageReceivedEvent()
	if !ok {
		return "", false
	}
	return m.Data.Text.Get()
}

// Code returns the code of an error, as oapi-codegen reads it.
func Code(e oapicodegen.Error) string { return string(e.Error.Code) }

// Connected reads an event by its discriminator, as oapi-codegen does.
func Connected(e oapicodegen.Event) (number string, ok bool) {
	v, err := e.ValueByDiscriminator()
	if err != nil {
		return "", false
	}
	c, ok := v.(oapicodegen.InstanceConnectedEvent)
	return c.Data.PhoneNumber, ok
}
