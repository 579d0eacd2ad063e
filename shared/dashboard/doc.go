// Package dashboard is the page on which people pair and watch instances by
// looking at them. It is static files and one http.Handler; whatever it shows
// or does goes through the public API, with the key that its user pasted.
//
// # Files
//
// The page is at /, everything it loads is below /dashboard/: modules and a
// style sheet that a browser takes as they are, and one file of strings for
// each language. Nothing is built, nothing comes from another host, and all of
// it together stays under 100 KB.
//
// # The key
//
// It lives in a private field of the page's client, in memory; in the tab's
// session storage only if its user asks for that; and never in a URL. The
// Content-Security-Policy lets the page speak to its own origin, to that of the
// event stream and to that of the bucket of files, and to nobody else. Scripts and styles come from files
// only, and Trusted Types refuse every way to turn a string into markup: what
// customers and their correspondents write is only ever text.
//
// # How it stays true
//
// A list is read once, after the event stream is open, so that nothing falls in
// between; from then on the stream tells every change. The reader resumes at the
// position it has, with back-off and jitter, and takes a stream that is silent
// for longer than two of its comments for dead. Some states are nobody's event,
// such as that a session host went silent: those come with the list, which is
// read again whenever the stream comes back or the page is looked at again.
// While there is no stream the page says so, and what it shows is from then.
//
// A browser has six connections for all its pages of one host, over plain HTTP.
// So a page that is out of sight for some seconds ends its stream and resumes it,
// at the position it has, when somebody looks again.
//
// # Conversations
//
// They are listed by the API's list of chats. The messages of one are put together
// from the list of messages, newest first, and from the events that change a message (edited, taken back, reactions, votes), which come
// from the event log once and then over the stream. A person is one conversation,
// under the number where it is known. Of a long conversation only the rows in and
// near the window are in the page, and older messages are read when somebody
// scrolls up to them.
package dashboard
