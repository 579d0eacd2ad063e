// Package line is one connection to WhatsApp: our own net.Conn, with whatsmeow's
// client on it.
//
// # Who talks to whom
//
// A session opens a line ([Network.Open]) and reads its [Line.Events]: a closed
// set of our own, so that nothing above this room knows the library. What must be
// decided while the library waits, it asks the session's [Handler] for, on the
// library's goroutine. [Line.Shut] ends the line; a line is used once.
//
// # The end of a line
//
// Every line that is not shut by its session ends with one [Ended], which says
// why. It comes from whoever knew first: the library (WhatsApp named a cause), the
// connection (it broke), the handler (a message could not be stored) or the store
// (the auth state could not be kept). The library hands the cause over on a
// goroutine of its own, so the end of the connection waits lateEvents for it, unless
// nothing came before the end that could have been a cause: a socket that just breaks
// is replaced at once.
//
// What the library says that is no cause is no end: an event that this room does
// not know is logged and acknowledged, and a test lists every event of the pinned
// library with what is done with it.
//
// # The fence
//
// The connection asks before each read and write, and after each read, whether
// the process may still act for the shard. A process that was stopped and woken
// therefore finds its connections dead before it can say anything. Nothing waits
// for the library's Disconnect, which can block: Shut closes the connection.
//
// # Acknowledgement
//
// The library acknowledges a message after the handler has returned. When a
// message can't be handled, or the handler panics, the line is shut before the
// handler returns, so that no acknowledgement can leave.
//
// # Where a line can go
//
// [Network] makes every connection of every client: the WebSocket, media, and the
// page that names the newest version. In the sandbox all of them go to the
// simulator, whatever host they name.
package line
