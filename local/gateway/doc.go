// Package gateway stands in for API Gateway, and for the two other ways in which
// AWS calls a function: a function URL and a queue.
//
// A [Gateway] serves the routes that template.yaml declares, and no others: a
// route that the template lacks is a 404 here too. It makes of each HTTP request
// the event that an HTTP API makes (payload format 2.0), puts it through the
// handler that the function's main starts, and makes the HTTP response that API
// Gateway makes of the answer. What goes wrong in between is answered as API
// Gateway answers it:
//
//	no such route                              404 {"message":"Not Found"}
//	body over 10 MB, or event over 6 MB        413 {"message":"Request Entity Too Large"}
//	the body took over 30 s to come            408 {"message":"Request Timeout"}
//	over 64 MB of bodies in hand               503 {"message":"Service Unavailable"}
//	request line and headers over 10,240 bytes 431 {"message":"Request Header Fields Too Large"}
//	the function failed, crashed, took longer
//	than its timeout, or answered nonsense     500 {"message":"Internal Server Error"}
//	the integration's timeout passed           503 {"message":"Service Unavailable"}
//
// As in AWS, a client that goes away does not stop the function: it runs to its
// end or its timeout. A handler that ignores the end of its context is not
// killed, as Lambda would, but nobody waits for its answer; [Gateway.Wait] does
// wait for it.
//
// A function with a streaming URL is an ordinary [http.Handler] here, on the same
// origin as the API, at the routes that the template gives it. [Stream] is that
// handler for a function that runs as a process of its own. A [Trigger] feeds a
// function from a queue.
//
// What is not modelled: the API's and the account's throttles, cold starts, the
// limit of one request at a time in a function's process, and named stages.
package gateway
