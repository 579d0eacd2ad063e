package whatsapp

import (
	"context"
	"net/http"
)

type pairCode struct{}
type passkey struct{}
type messages struct{}

var errLater = refuse(http.StatusNotImplemented, "not_yet", "not yet")

func newMessages(int) *messages                           { return &messages{} }
func (s *Server) takeMessage(c *conn, d *device, n *Node) {}
func (s *Server) takeReceipt(c *conn, d *device, n *Node) {}
func (s *Server) acknowledged(d *device, n *Node)         {}
func (s *Server) deliverQueue(c *conn)                    {}
func (s *Server) tellOwnDevices(d *device, change string) {}
func (s *Server) askPasskey(c *conn, p person) error      { return errLater }
func (s *Server) bundles(c *conn, q *Node) Node           { return iqError(q, 501, "feature-not-implemented") }
func (s *Server) usync(c *conn, q *Node) Node             { return iqError(q, 501, "feature-not-implemented") }
func (s *Server) registrationQuery(c *conn, q *Node) {
	c.send(iqError(q, 501, "feature-not-implemented"))
}
func (s *Server) controlPasskey(*http.Request) (any, error)  { return nil, errLater }
func (s *Server) controlSend(*http.Request) (any, error)     { return nil, errLater }
func (s *Server) controlMessages(*http.Request) (any, error) { return nil, errLater }
func (s *Server) EnterCode(ctx context.Context, world, code, number string) (Device, error) {
	return Device{}, errLater
}
