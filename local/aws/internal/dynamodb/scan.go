package dynamodb

import (
	"encoding/binary"
	"errors"

	"whatisup/local/aws/internal/attribute"
	"whatisup/local/aws/internal/wire"
)

func (s *Service) scan(r *Request) ([]byte, error) {
	in := r.Input
	if err := checkParams(in, []string{"ProjectionExpression", "FilterExpression"}); err != nil {
		return nil, err
	}
	start, err := parseStart(in)
	if err != nil {
		return nil, err
	}
	segment, segments := in.Int("Segment", -1), in.Int("TotalSegments", 0)
	switch {
	case segments > 0 && segment < 0:
		return nil, wire.Validation("The Segment parameter is required but was not present in the request when parameter TotalSegments is present")
	case segments == 0 && segment >= 0:
		return nil, wire.Validation("The TotalSegments parameter is required but was not present in the request when Segment parameter is present")
	case segments > 0 && segment >= segments:
		return nil, wire.Validation("The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: %d is not less than TotalSegments: %d", segment, segments)
	}
	filter, projection, _, err := parsePage(in)
	if err != nil {
		return nil, err
	}
	if err := selectParams(in, ""); err != nil {
		return nil, err
	}
	p, err := s.openPage(in)
	if err != nil {
		return nil, err
	}
	p.filter, p.projection = filter, projection
	if segments > 1 {
		p.from, p.to = segmentStart(segment, segments), segmentStart(segment+1, segments)
	}
	if err := p.checkSelect(in); err != nil {
		return nil, err
	}
	if start != nil {
		if err := p.scanStart(start, segment, segments); err != nil {
			return nil, err
		}
	}
	for _, nested := range []map[string]bool{projection.NestedTops(), filter.NestedTops()} {
		if err := p.table.checkNested(nested); err != nil {
			return nil, err
		}
	}
	return s.run(p, in)
}

// segmentStart is the first place of a segment; nil behind the last one.
func segmentStart(i, n int) []byte {
	if i == n {
		return nil
	}
	return binary.BigEndian.AppendUint32(nil, uint32((uint64(i)<<32+uint64(n)-1)/uint64(n)))
}

func (p *page) scanStart(start attribute.Item, segment, segments int) error {
	if len(start) != len(p.startNames()) {
		if p.index != nil {
			return errStart
		}
		return wire.Validation("The provided starting key is invalid: The provided key element does not match the schema")
	}
	if p.index != nil {
		for i, name := range p.index.Key.Names() {
			v, ok := start[name]
			if !ok {
				return errStart
			}
			if err := p.table.checkStart(name, v, i == 0); err != nil {
				return err
			}
		}
	}
	own := attribute.Item{}
	for _, name := range p.table.Key.Names() {
		if v, ok := start[name]; ok {
			own[name] = v
		}
	}
	if err := p.table.checkKey(own); err != nil {
		var e *wire.Error
		errors.As(err, &e)
		return wire.Validation("The provided starting key is invalid: %s", e.Message)
	}
	place := p.startPlace(start)
	if string(place) < string(p.from) || p.to != nil && string(place) >= string(p.to) {
		return wire.Validation("The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments: %d Segment: %d", segments, segment)
	}
	p.after(place)
	return nil
}
