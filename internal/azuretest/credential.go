package azuretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"
)

// Credential is a script: its answer to the n-th call (from 1) is what the function returns.
type Credential struct {
	Answer func(ctx context.Context, n int) (azcore.AccessToken, error)

	mu    sync.Mutex
	calls []time.Time
}

// GetToken makes it an azcore.TokenCredential.
func (c *Credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	c.calls = append(c.calls, time.Now())
	n := len(c.calls)
	c.mu.Unlock()
	return c.Answer(ctx, n)
}

// Count is how many calls there have been.
func (c *Credential) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// CallAt is when call i (from 0) came.
func (c *Credential) CallAt(i int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[i]
}

// Gaps are the times between the calls.
func (c *Credential) Gaps() (gaps []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.calls); i++ {
		gaps = append(gaps, c.calls[i].Sub(c.calls[i-1]))
	}
	return gaps
}

// NewToken is the opaque token "token-n", which lives for life from now on.
func NewToken(n int, life time.Duration) azcore.AccessToken {
	return azcore.AccessToken{Token: fmt.Sprintf("token-%d", n), ExpiresOn: time.Now().Add(life)}
}

// Issuing answers each call with a new token of the given life after the given delay. The delay is for bubbles of
// testing/synctest.
func Issuing(life, delay time.Duration) *Credential {
	return &Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
		time.Sleep(delay)
		return NewToken(n, life), nil
	}}
}

// Static answers each call with the same token.
func Static(token azcore.AccessToken) *Credential {
	return &Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) { return token, nil }}
}

// ErrEntra is a failure as Entra reports one.
var ErrEntra = errors.New("AADSTS90033: a transient error has occurred")

// TokenEnd is when a token ends by its claims, whoever has signed it.
func TokenEnd(token string) (time.Time, error) {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil {
		return time.Time{}, err
	}
	return claims.ExpiresAt.Time, nil
}
