// Package deploytest holds template.yaml and the code together: what is deployed
// is what the code needs, no less and no more. It has tests only.
//
// Some compare the template with what the code says of itself: routes, tables,
// queues, folders, variables, timeouts. The others run the programs as they are
// deployed, built as binaries, and look at what they do: every sample event goes
// through its function over the Runtime API; the calls that a run of the whole
// system makes to AWS are recorded program by program and compared with what
// their roles allow; the session host starts in an empty file system.
package deploytest
