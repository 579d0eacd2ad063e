// Package dashboardtest tries the dashboard in a real browser, against the whole
// local stack.
//
// A headless Chromium (the distribution's package; without one the tests say that
// they were skipped) is driven by keyboard alone, as somebody without a mouse
// would: what can't be reached with Tab, or has no visible focus, fails. In each
// state that is reached the page is audited: every control has a name in the
// browser's accessibility tree, every text has a contrast of at least 4.5:1 on
// what is behind it, light and dark, and nothing runs over the window's edge,
// wide and narrow. Whatever the browser complains of, a violation of the page's
// Content-Security-Policy above all, fails the test.
//
// Between the browser and the stack stands a door that can be shut, so that the
// connection is lost for real.
//
// SCREENSHOTS=<folder> keeps a picture of each state.
package dashboardtest
