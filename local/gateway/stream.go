package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"whatisup/local/gateway/runtimeapi"
	"whatisup/local/gateway/template"
)

// Invoker puts an event through a function and returns its answer, as
// [runtimeapi.Function] does with the real binary.
type Invoker interface {
	Invoke(ctx context.Context, event []byte) (*runtimeapi.Response, error)
}

// streamed is the content type of an answer that is a prelude (status and
// headers as JSON), eight zero bytes, and the body as it is written.
const streamed = "application/vnd.awslambda.http-integration-response"

// maxPrelude is more than a function has to say in headers.
const maxPrelude = 64 << 10

// Buffered is the handler of a function that runs as a process of its own.
func Buffered(f Invoker) Handler {
	return func(ctx context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		var answer events.APIGatewayV2HTTPResponse
		b, err := json.Marshal(event)
		if err != nil {
			return answer, err
		}
		response, err := f.Invoke(ctx, b)
		if err != nil {
			return answer, err
		}
		defer response.Body.Close()
		if response.ContentType == streamed {
			return answer, errors.New("a streamed answer can't be buffered")
		}
		b, err = io.ReadAll(io.LimitReader(response.Body, 2*maxEvent))
		if err != nil {
			return answer, err
		}
		return answer, json.Unmarshal(b, &answer)
	}
}

// Stream is the function URL of a function that runs as a process of its own:
// it makes the events of a URL, and passes on what the function streams while it
// is written.
func Stream(f Invoker, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
			return
		}
		event := newEvent(r, template.Route{}, nil, body, requestID(), time.Now())
		event.RequestContext.DomainName = apiID + ".lambda-url.local.on.aws"
		event.RequestContext.DomainPrefix = apiID
		// Unlike an HTTP API, a function URL leaves the path as it was sent.
		event.RawPath = r.URL.EscapedPath()
		event.RequestContext.HTTP.Path = event.RawPath
		b, err := json.Marshal(event)
		if err == nil {
			err = pass(w, r, f, b)
		}
		if err != nil && r.Context().Err() == nil {
			log.Error("streaming function failed", "error", err)
		}
	})
}

func pass(w http.ResponseWriter, r *http.Request, f Invoker, event []byte) error {
	failed := func(err error) error {
		refuse(w, http.StatusBadGateway, "Internal Server Error")
		return err
	}
	response, err := f.Invoke(r.Context(), event)
	if err != nil {
		return failed(err)
	}
	defer response.Body.Close()
	stop := context.AfterFunc(r.Context(), func() { response.Body.Close() })
	defer stop()
	if response.ContentType != streamed {
		var answer events.APIGatewayV2HTTPResponse
		if err := json.NewDecoder(io.LimitReader(response.Body, 2*maxEvent)).Decode(&answer); err != nil {
			return failed(err)
		}
		if err := writeResponse(w, r.Method, answer); err != nil {
			return failed(err)
		}
		return nil
	}
	from := bufio.NewReader(response.Body)
	prelude, err := readPrelude(from)
	if err != nil {
		return failed(err)
	}
	for name, value := range prelude.Headers {
		w.Header().Set(name, value)
	}
	for _, c := range prelude.Cookies {
		w.Header().Add("Set-Cookie", c)
	}
	w.WriteHeader(prelude.StatusCode)
	flush := http.NewResponseController(w)
	chunk := make([]byte, 32<<10)
	for {
		if err := flush.Flush(); err != nil {
			return err
		}
		n, err := from.Read(chunk)
		if n > 0 {
			if _, gone := w.Write(chunk[:n]); gone != nil {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			// The status is out: a broken connection is all that can be said.
			return errors.Join(err, flush.SetWriteDeadline(time.Now()))
		}
	}
}

func readPrelude(from *bufio.Reader) (prelude struct {
	StatusCode int               `json:"statusCode"`
	Headers    map[string]string `json:"headers"`
	Cookies    []string          `json:"cookies"`
}, err error) {
	var text []byte
	for zeros := 0; zeros < 8; {
		b, err := from.ReadByte()
		if err != nil {
			return prelude, fmt.Errorf("prelude: %w", err)
		}
		if b == 0 {
			zeros++
			continue
		}
		if zeros = 0; len(text) == maxPrelude {
			return prelude, errors.New("prelude: too long")
		}
		text = append(text, b)
	}
	if err := json.Unmarshal(text, &prelude); err != nil {
		return prelude, fmt.Errorf("prelude: %w", err)
	}
	if prelude.StatusCode < 200 || prelude.StatusCode > 599 {
		return prelude, fmt.Errorf("prelude: status %d", prelude.StatusCode)
	}
	return prelude, nil
}
