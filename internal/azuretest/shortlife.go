package azuretest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/require"
)

// A ShortLife is a policy for the requests of azidentity's credentials, for tests of rotations in real time: each token
// ends soon, as far as the credential is told. The Server takes it for longer. So it refuses no token that ends on its
// way to it, which on a busy machine takes seconds.
type ShortLife struct {
	life time.Duration
	ends sync.Map // from a token to a time.Time
}

// NewShortLife is one of life, rounded down to where a second begins.
func NewShortLife(life time.Duration) *ShortLife { return &ShortLife{life: life} }

// EndOf is when the token ends, as the credential has been told; zero for another credential's.
func (l *ShortLife) EndOf(token string) time.Time {
	ends, _ := l.ends.Load(token)
	at, _ := ends.(time.Time)
	return at
}

// Do makes it a policy.
func (l *ShortLife) Do(r *policy.Request) (*http.Response, error) {
	response, err := r.Next()
	if err != nil {
		return response, err
	}
	body, err := runtime.Payload(response)
	if err != nil {
		return response, err
	}
	var answer map[string]any
	if json.Unmarshal(body, &answer) != nil {
		return response, nil
	}
	token, ok := answer["access_token"].(string)
	if !ok {
		return response, nil
	}
	ends := time.Now().Add(l.life).Truncate(time.Second)
	l.ends.Store(token, ends)
	answer["expires_on"] = strconv.FormatInt(ends.Unix(), 10)
	delete(answer, "expires_in")
	if body, err = json.Marshal(answer); err != nil {
		return response, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	return response, nil
}

// ShortLived is [Azure.Credential] with tokens of a ShortLife.
func (a Azure) ShortLived(t testing.TB, life *ShortLife) azcore.TokenCredential {
	t.Helper()
	options := a.Options()
	options.PerRetryPolicies = append(options.PerRetryPolicies, life)
	cred, err := azidentity.NewClientSecretCredential(a.TenantID(), a.App.ClientID, a.App.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	require.NoError(t, err)
	return cred
}
