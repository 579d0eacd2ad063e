package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

// writeSecret writes a file that only its owner can read, whole or not at all.
func writeSecret(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(f.Name(), path), syncFolder(filepath.Dir(path)))
}

// syncFolder brings a folder's names to the disk.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// authKeyAlias names the KMS key under which data keys are wrapped.
const authKeyAlias = "alias/whatisup-auth"

// authKey finds the key, or makes it at the first start.
func authKey(ctx context.Context, client *kms.Client) (string, error) {
	found, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(authKeyAlias)})
	if err == nil {
		return aws.ToString(found.KeyMetadata.Arn), nil
	}
	if _, ok := errors.AsType[*kmstypes.NotFoundException](err); !ok {
		return "", err
	}
	made, err := client.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("data keys of links")})
	if err != nil {
		return "", err
	}
	_, err = client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(authKeyAlias), TargetKeyId: made.KeyMetadata.KeyId})
	return aws.ToString(made.KeyMetadata.Arn), err
}

var keyFiles = map[whatisup.Mode]string{whatisup.Test: "test.key", whatisup.Live: "live.key"}

// firstCustomer makes the first customer and keeps its keys in files; a file
// that was lost gets a new key of the oldest customer that is not suspended.
func (c Config) firstCustomer(ctx context.Context, o *operator.Operator) (keys map[whatisup.Mode]string, err error) {
	keys = map[whatisup.Mode]string{}
	for m, name := range keyFiles {
		b, err := os.ReadFile(c.path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if _, _, ok := whatisup.ParseAPIKeyText(strings.TrimSpace(string(b))); ok {
			keys[m] = strings.TrimSpace(string(b))
		}
	}
	if len(keys) == len(keyFiles) {
		return keys, nil
	}
	var first whatisup.CustomerID
	suspended := false
	for customer, err := range o.Store.Customers(ctx) {
		if err != nil {
			return nil, err
		}
		if suspended = customer.Suspended; !suspended {
			first = customer.ID
			break
		}
	}
	if suspended { // all of them, as after a move: none can have a key yet
		return keys, nil
	}
	if first == "" {
		made, err := o.MakeCustomer(ctx, "first")
		if err != nil {
			return nil, err
		}
		keys[whatisup.Test], keys[whatisup.Live] = made.TestKey, made.LiveKey
	}
	for m, name := range keyFiles {
		if keys[m] == "" {
			if _, keys[m], err = o.MakeKey(ctx, first, m, "first"); err != nil {
				return nil, fmt.Errorf("key for %s: %w", name, err)
			}
		}
		if err := writeSecret(c.path(name), keys[m]); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
