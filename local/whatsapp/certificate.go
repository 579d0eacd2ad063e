package whatsapp

import (
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCert"
	"go.mau.fi/whatsmeow/util/keys"
)

const (
	rootSerial         = 0
	intermediateSerial = 3
	leafSerial         = 7
)

// certificateChain vouches for the server's static key: the root signs the
// intermediate, the intermediate signs the leaf, and the leaf holds the key.
func certificateChain(root, intermediate, static *keys.KeyPair, now time.Time) ([]byte, error) {
	notBefore := uint64(now.Add(-24 * time.Hour).Unix())
	notAfter := uint64(now.AddDate(10, 0, 0).Unix())
	certify := func(by, of *keys.KeyPair, serial, issuer uint32) (*waCert.CertChain_NoiseCertificate, error) {
		details, err := proto.Marshal(&waCert.CertChain_NoiseCertificate_Details{
			Serial:       &serial,
			IssuerSerial: &issuer,
			Key:          of.Pub[:],
			NotBefore:    &notBefore,
			NotAfter:     &notAfter,
		})
		if err != nil {
			return nil, err
		}
		return &waCert.CertChain_NoiseCertificate{Details: details, Signature: sign(by, details)}, nil
	}
	middle, err := certify(root, intermediate, intermediateSerial, rootSerial)
	if err != nil {
		return nil, err
	}
	leaf, err := certify(intermediate, static, leafSerial, intermediateSerial)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&waCert.CertChain{Intermediate: middle, Leaf: leaf})
}
