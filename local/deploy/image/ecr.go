package image

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// ECREndpoint is where a registry of Amazon's, account.dkr.ecr.region.suffix,
// gives out passwords; empty for any other registry.
func ECREndpoint(host string) string {
	_, place, ok := strings.Cut(host, ".dkr.ecr.")
	if !ok {
		return ""
	}
	return "https://api.ecr." + place + "/"
}

// ECR returns the account's registry, with a password that is good for some
// hours. The one call that takes is made by hand: a whole client for it would
// be the largest dependency of this package.
func ECR(ctx context.Context, cfg aws.Config, endpoint string) (Registry, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	const body = "{}"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(body))
	if err != nil {
		return Registry{}, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return Registry{}, fmt.Errorf("image: credentials: %w", err)
	}
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), "ecr", cfg.Region, time.Now()); err != nil {
		return Registry{}, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return Registry{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Registry{}, fmt.Errorf("image: the registry gives no password: %s", response.Status)
	}
	var answer struct {
		AuthorizationData []struct {
			AuthorizationToken string `json:"authorizationToken"`
		} `json:"authorizationData"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return Registry{}, err
	}
	if len(answer.AuthorizationData) == 0 {
		return Registry{}, fmt.Errorf("image: the registry's answer has no password")
	}
	token, err := base64.StdEncoding.DecodeString(answer.AuthorizationData[0].AuthorizationToken)
	user, password, ok := strings.Cut(string(token), ":")
	if err != nil || !ok {
		return Registry{}, fmt.Errorf("image: the registry's password can't be read")
	}
	return Registry{User: user, Password: password}, nil
}
