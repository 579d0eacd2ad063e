package whatsapp

import (
	"cmp"
	"slices"

	"go.etcd.io/bbolt"
)

// profile is what a person says of themselves, and whom they keep away.
type profile struct {
	Name      string   `json:"name,omitempty"`
	About     string   `json:"about,omitempty"`
	AboutAt   int64    `json:"about_at,omitempty"`
	Picture   []byte   `json:"picture,omitempty"`
	PictureID string   `json:"picture_id,omitempty"`
	GroupAdd  string   `json:"group_add,omitempty"` // none: must be invited
	Blocked   []string `json:"blocked,omitempty"`   // numbers
}

const usualAbout = "Hey there! I am using WhatsApp."

func (p *profile) about() string { return cmp.Or(p.About, usualAbout) }

func (s *Server) profileOf(p person) (out profile) {
	_ = s.db.bolt.View(func(tx *bbolt.Tx) error {
		_, err := getJSON(tx.Bucket(bucketProfiles), keyOf(p.world, p.number), &out)
		return err
	})
	return out
}

func (s *Server) changeProfile(p person, change func(*profile)) (out profile, err error) {
	err = s.db.bolt.Update(func(tx *bbolt.Tx) error {
		bucket, key := tx.Bucket(bucketProfiles), keyOf(p.world, p.number)
		if _, err := getJSON(bucket, key, &out); err != nil {
			return err
		}
		change(&out)
		return putJSON(bucket, key, out)
	})
	return out, err
}

// blocks says whether a person keeps another away.
func (s *Server) blocks(p, other person) bool {
	return slices.Contains(s.profileOf(p).Blocked, other.number)
}
