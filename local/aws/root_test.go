package aws_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.etcd.io/bbolt"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

func roots(t *testing.T, text string) []local.Root {
	t.Helper()
	if text == "" {
		return nil
	}
	all, err := local.ParseRoots(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func rootText(version, fill byte) string {
	return fmt.Sprintf("%d:%s", version, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)))
}

// A root key seals what the file holds, also what an earlier version left in it
// as it was; it is rotated by putting a new one first; and without it nothing
// opens.
func TestRootKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aws.db")
	one, two := rootText(1, 7), rootText(2, 9)
	var id string
	var sealed []byte
	for i, text := range []string{"", one, two + "," + one, two} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			a := awstest.StartWith(t, local.Config{Path: path, Roots: roots(t, text)})
			client := kms.NewFromConfig(a.Config)
			if i == 0 {
				made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
				if err != nil {
					t.Fatal(err)
				}
				id = aws.ToString(made.KeyMetadata.KeyId)
				out, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("a data key")})
				if err != nil {
					t.Fatal(err)
				}
				sealed = out.CiphertextBlob
			}
			out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
			if err != nil || string(out.Plaintext) != "a data key" {
				t.Errorf("opened %q (%v)", out.Plaintext, err)
			}
		})
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bare := bytes.Contains(b, []byte(`"Material":"`)); bare != (i == 0) {
			t.Errorf("with root keys %q the file holds a key as it is: %t", text, bare)
		}
	}
	for _, text := range []string{"", one, rootText(2, 8)} {
		if s, err := local.Open(local.Config{Path: path, Roots: roots(t, text)}); err == nil {
			t.Errorf("it opens with %q", text)
			s.Close()
		}
	}
	if _, err := local.ParseRoots("1:short"); err == nil {
		t.Error("a short root key is taken")
	}
}

// A file is as small again as what is in it, when it is opened after a flood.
func TestShrinksAfterAFlood(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aws.db")
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	t.Run("flood", func(t *testing.T) {
		client := dynamodb.NewFromConfig(awstest.StartWith(t, local.Config{Path: path}).Config)
		if _, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
			TableName: aws.String("flood"), BillingMode: types.BillingModePayPerRequest,
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}},
		}); err != nil {
			t.Fatal(err)
		}
		for i := range 150 {
			if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("flood"), Item: map[string]types.AttributeValue{
				"pk": &types.AttributeValueMemberS{Value: fmt.Sprint(i)}, "v": &types.AttributeValueMemberS{Value: strings.Repeat("x", 390<<10)},
			}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := 1; i < 150; i++ {
			if _, err := client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String("flood"), Key: map[string]types.AttributeValue{
				"pk": &types.AttributeValueMemberS{Value: fmt.Sprint(i)},
			}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	flooded := size()
	t.Run("after", func(t *testing.T) {
		client := dynamodb.NewFromConfig(awstest.StartWith(t, local.Config{Path: path}).Config)
		out, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("flood"), Key: map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "0"}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Item) != 2 {
			t.Errorf("what was left is %d attributes ", len(out.Item))
		}
	})
	if now := size(); flooded < 40<<20 || now > 8<<20 {
		t.Errorf("%d bytes after the flood, %d when opened again", flooded, now)
	}
}

// A damaged file is refused with what to do, and one of a newer version by name.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "aws.db")
	t.Run("make", func(t *testing.T) {
		a := awstest.StartWith(t, local.Config{Path: whole})
		for range 40 { // some pages of keys
			if _, err := kms.NewFromConfig(a.Config).CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String(strings.Repeat("x", 2000))}); err != nil {
				t.Fatal(err)
			}
		}
	})
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for what, damage := range map[string]func([]byte) []byte{
		"no database":      func([]byte) []byte { return []byte(strings.Repeat("something else ", 4000)) },
		"both heads":       func(b []byte) []byte { clear(b[:2*page]); return b },
		"the end is gone":  func(b []byte) []byte { return b[:3*page] },
		"pages are zeroed": func(b []byte) []byte { clear(b[2*page:]); return b },
	} {
		path := filepath.Join(t.TempDir(), "aws.db")
		if err := os.WriteFile(path, damage(bytes.Clone(b)), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := local.Open(local.Config{Path: path})
		if !errors.Is(err, local.ErrDamaged) || !strings.Contains(err.Error(), "whatisup restore") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			s.Close()
		}
	}
	db, err := bbolt.Open(whole, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("file")).Put([]byte("format"), []byte("9")) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(local.Config{Path: whole}); err == nil || !strings.Contains(err.Error(), "format 9") {
		t.Errorf("a newer file: %v", err)
	}
}
