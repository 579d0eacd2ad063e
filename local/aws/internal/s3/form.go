package s3

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"whatisup/local/aws/internal/signature"
)

func (s *Service) openFile(file string) (*os.File, error) { return os.Open(s.path(file)) }

// policy is what the signer of a form allows.
type policy struct {
	Expiration string
	Conditions []json.RawMessage
}

// maxForm bounds the fields before the file.
const maxForm = 64 << 10

// postObject takes an upload form: its fields, the policy that signs them, and
// the file last.
func (s *Service) postObject(w http.ResponseWriter, r *http.Request, q *Request) error {
	control := http.NewResponseController(w)
	defer control.SetReadDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	r.Body = io.NopCloser(&steady{r.Body, control})
	reader, err := r.MultipartReader()
	if err != nil {
		return failure(412, "PreconditionFailed", "Bucket POST must be of the enclosure-type multipart/form-data")
	}
	fields := map[string]string{}
	room := int64(maxForm)
	for {
		p, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return invalid("POST requires exactly one file upload per request.")
		}
		if err != nil {
			return failure(400, "MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.")
		}
		name := strings.ToLower(p.FormName())
		if name == "file" {
			fields["key"] = strings.ReplaceAll(fields["key"], "${filename}", p.FileName())
			return s.postFile(w, r, q, fields, p)
		}
		b, err := io.ReadAll(io.LimitReader(p, room+1))
		if room -= int64(len(b)); err != nil || room < 0 {
			return failure(400, "MaxPostPreDataLengthExceeded", "Your POST request fields preceding the upload file were too large.")
		}
		if _, again := fields[name]; again {
			return invalid("POST has the field %s twice", name)
		}
		fields[name] = string(b)
	}
}

func (s *Service) postFile(w http.ResponseWriter, r *http.Request, q *Request, fields map[string]string, file *multipart.Part) error {
	minimum, maximum, err := s.checkForm(q.Bucket, fields)
	if err != nil {
		return err
	}
	q.Key = fields["key"]
	if q.Key == "" {
		return invalid("Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.")
	}
	if err := errors.Join(checkKey(q.Key), s.has(q.Bucket)); err != nil {
		return first(err)
	}
	h := http.Header{}
	for name, v := range fields {
		h.Set(name, v)
	}
	headers, meta, err := describe(h)
	if err != nil {
		return err
	}
	want, err := checksumIn(h)
	if err != nil {
		return err
	}
	f, err := s.store(file, maximum, want.Algorithm, nil)
	if err != nil {
		return err
	}
	fail := func(err error) error { s.discard(f.File); return err }
	if f.Size < minimum {
		return fail(errTooSmall)
	}
	if want.Value != "" && want.Value != f.Checksum.Value {
		return fail(errBadDigest)
	}
	// A form whose end is missing was cut off: its file may be, too.
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fail(errIncomplete)
	}
	o := s.newObject(f, headers, meta)
	if err := s.publish(q.Bucket, q.Key, o, http.Header{}, nil); err != nil {
		return fail(err)
	}
	o.written(w.Header())
	location := "http://" + r.Host + "/" + q.Bucket + "/" + q.Key
	w.Header().Set("Location", location)
	switch fields["success_action_status"] {
	case "201":
		answerXML(w, 201, struct {
			XMLName                     xml.Name `xml:"PostResponse"`
			Location, Bucket, Key, ETag string
		}{Location: location, Bucket: q.Bucket, Key: q.Key, ETag: o.ETag})
	case "200":
	default:
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// unconditional are the fields that a policy need not name.
var unconditional = map[string]bool{"policy": true, "x-amz-signature": true, "file": true, "bucket": true}

// checkForm verifies a form's policy and holds its fields to it. It returns how
// small and how large the file may be.
func (s *Service) checkForm(bucketName string, fields map[string]string) (minimum, maximum int64, err error) {
	fields["bucket"] = bucketName
	maximum = maxPut
	if fields["policy"] == "" || fields["x-amz-signature"] == "" {
		return 0, 0, denied("Access Denied")
	}
	if fields["x-amz-algorithm"] != "AWS4-HMAC-SHA256" {
		return 0, 0, invalid("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
	}
	sig, err := signature.New(fields["x-amz-credential"], fields["x-amz-date"], fields["x-amz-signature"])
	if err != nil {
		return 0, 0, s.refusal(nil, err)
	}
	// The policy's own end counts, not the age of the signature.
	sig.SignedHeaders, sig.Presigned, sig.Expires = []string{"host"}, true, 1<<62
	if err := s.signed(sig, func() error { return sig.VerifyText(fields["policy"], s.SecretKey) }); err != nil {
		return 0, 0, err
	}

	text, err := base64.StdEncoding.DecodeString(fields["policy"])
	var p policy
	if err != nil || json.Unmarshal(text, &p) != nil {
		return 0, 0, failure(400, "InvalidPolicyDocument", "Invalid Policy: Invalid JSON.")
	}
	end, err := time.Parse(time.RFC3339, p.Expiration)
	if err != nil {
		return 0, 0, failure(400, "InvalidPolicyDocument", "Invalid Policy: Invalid 'expiration' value.")
	}
	if s.Clock().After(end) {
		return 0, 0, denied("Invalid according to Policy: Policy expired.")
	}
	named := map[string]bool{}
	for _, raw := range p.Conditions {
		name, low, high, err := holds(raw, fields)
		if err != nil {
			return 0, 0, err
		}
		if named[name] = true; name == sizeCondition {
			minimum, maximum = max(minimum, low), min(maximum, high)
		}
	}
	for name := range fields {
		if !named[name] && !unconditional[name] && !strings.HasPrefix(name, "x-ignore-") {
			return 0, 0, denied("Invalid according to Policy: Extra input fields: %s", name)
		}
	}
	return minimum, maximum, nil
}

const sizeCondition = "content-length-range"

// holds checks one condition of a policy. It returns the field that it names,
// and the bounds that it sets.
func holds(raw json.RawMessage, fields map[string]string) (name string, low, high int64, err error) {
	failed := denied("Invalid according to Policy: Policy Condition failed: %s", raw)
	bad := failure(400, "InvalidPolicyDocument", "Invalid Policy: Invalid condition %s", raw)
	var pair map[string]string
	if json.Unmarshal(raw, &pair) == nil {
		for name, want := range pair {
			have, there := fields[strings.ToLower(name)]
			switch {
			case len(pair) != 1:
				return "", 0, 0, bad
			case !there || have != want:
				return "", 0, 0, failed
			}
			return strings.ToLower(name), 0, 0, nil
		}
	}
	var list []any
	if json.Unmarshal(raw, &list) != nil || len(list) != 3 {
		return "", 0, 0, bad
	}
	op, _ := list[0].(string)
	if op == sizeCondition {
		low, lowOK := wholeNumber(list[1])
		high, highOK := wholeNumber(list[2])
		if !lowOK || !highOK {
			return "", 0, 0, bad
		}
		return sizeCondition, low, high, nil
	}
	field, _ := list[1].(string)
	want, ok := list[2].(string)
	name, dollar := strings.CutPrefix(strings.ToLower(field), "$")
	have, there := fields[name]
	switch {
	case !ok || !dollar:
		return "", 0, 0, bad
	case op == "eq" && there && have == want, op == "starts-with" && there && strings.HasPrefix(have, want):
		return name, 0, 0, nil
	case op != "eq" && op != "starts-with":
		return "", 0, 0, bad
	}
	return "", 0, 0, failed
}

func wholeNumber(v any) (int64, bool) {
	switch v := v.(type) {
	case float64:
		return int64(v), v == float64(int64(v)) && v >= 0
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil && n >= 0
	}
	return 0, false
}
