package aadpooltest

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// claimsOf reads a token's claims without verifying it, as a client does.
func claimsOf(t *testing.T, token string) jwt.MapClaims {
	t.Helper()
	claims := jwt.MapClaims{}
	_, _, err := jwt.NewParser().ParseUnverified(token, claims)
	require.NoError(t, err)
	return claims
}

func TestClaimsOfEachKind(t *testing.T) {
	a := newAuthority(t)
	a.SetSystemAssigned("orders-vm")
	for _, tt := range []struct {
		name      string
		principal Principal
		want      map[string]any
		without   []string
	}{
		{
			name:      "service principal",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api", ClientID: "client-1", ObjectID: "object-1"},
			want: map[string]any{"app_displayname": "orders-api", "appid": "client-1", "oid": "object-1", "sub": "object-1",
				"idtyp": "app"},
			without: []string{"upn", "unique_name", "xms_mirid", "scp", "groups"},
		},
		{
			name:      "user-assigned managed identity",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity", ClientID: "client-2", ObjectID: "object-2"},
			want: map[string]any{
				"appid": "client-2", "oid": "object-2", "sub": "object-2", "idtyp": "app",
				"xms_mirid": "/subscriptions/" + a.subscriptionID +
					"/resourcegroups/aadpooltest/providers/Microsoft.ManagedIdentity/userAssignedIdentities/orders-identity",
			},
			without: []string{"app_displayname", "upn", "name", "scp", "groups"},
		},
		{
			name:      "system-assigned managed identity",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-vm"},
			want: map[string]any{"xms_mirid": "/subscriptions/" + a.subscriptionID +
				"/resourcegroups/aadpooltest/providers/Microsoft.Compute/virtualMachines/orders-vm"},
			without: []string{"app_displayname"},
		},
		{
			name:      "user",
			principal: Principal{Kind: User, Name: "ada@example.com", ObjectID: "object-3", Groups: []string{"dba"}},
			want: map[string]any{
				"upn": "ada@example.com", "unique_name": "ada@example.com", "name": "ada", "oid": "object-3",
				"appid": azureCLIClientID, "scp": "user_impersonation",
			},
			without: []string{"app_displayname", "xms_mirid", "idtyp", "groups"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a.Register(tt.principal)
			token, err := a.Issue(tt.principal.Name)
			require.NoError(t, err)
			claims := claimsOf(t, token)

			assert.Equal(t, DefaultAudience, claims["aud"])
			assert.Equal(t, "https://sts.windows.net/"+a.TenantID()+"/", claims["iss"])
			assert.Equal(t, a.TenantID(), claims["tid"])
			assert.Equal(t, "1.0", claims["ver"])
			for name, value := range tt.want {
				assert.Equal(t, value, claims[name], name)
			}
			for _, name := range append(tt.without, "preferred_username", "xms_padding") {
				assert.NotContains(t, claims, name)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	other.Register(p)
	issue := func(authority *Authority, opts ...TokenOption) string {
		token, err := authority.Issue(p.Name, opts...)
		require.NoError(t, err)
		return token
	}
	genuine := issue(a)
	header, rest, _ := strings.Cut(genuine, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	federated, err := a.FederatedToken(p)
	require.NoError(t, err)

	forged := claimsOf(t, genuine)
	forged["oid"] = "another principal's"
	forgedPayload, err := json.Marshal(forged)
	require.NoError(t, err)
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone,
		claimsOf(t, genuine)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	// The public key as an HMAC secret: https://www.rfc-editor.org/rfc/rfc8725#section-2.1.
	confused, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claimsOf(t, genuine)).SignedString(a.key.N.Bytes())
	require.NoError(t, err)
	anotherAlgorithm, err := jwt.NewWithClaims(jwt.SigningMethodPS256, claimsOf(t, genuine)).SignedString(a.key)
	require.NoError(t, err)
	withoutExpiry := claimsOf(t, genuine)
	delete(withoutExpiry, "exp")
	eternal, err := jwt.NewWithClaims(jwt.SigningMethodRS256, withoutExpiry).SignedString(a.key)
	require.NoError(t, err)

	now := time.Now()
	for _, tt := range []struct {
		name  string
		token string
		want  error
	}{
		{"nothing", "", ErrTokenInvalid},
		{"no JWT", "hunter2", ErrTokenInvalid},
		{"claims changed", header + "." + base64.RawURLEncoding.EncodeToString(forgedPayload) + "." + signature,
			ErrTokenInvalid},
		{"signature cut off", header + "." + payload + ".", ErrTokenInvalid},
		{"another authority's key", issue(other), ErrTokenInvalid},
		{"alg none", unsigned, ErrTokenInvalid},
		{"alg HS256 with the public key", confused, ErrTokenInvalid},
		{"another algorithm than Entra's", anotherAlgorithm, ErrTokenInvalid},
		{"no expiry", eternal, ErrTokenInvalid},
		{"a federated token", federated, ErrTokenInvalid},
		{"another audience", issue(a, WithAudience("https://management.azure.com/")), ErrTokenAudience},
		{"expired a second ago", issue(a, WithIssuedAt(now.Add(-time.Hour)), WithLife(time.Hour-time.Second)),
			ErrTokenExpired},
		{"valid from tomorrow", issue(a, WithIssuedAt(now.Add(24*time.Hour))), ErrTokenNotYetValid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := a.Verify(tt.token, DefaultAudience)
			require.ErrorIs(t, err, tt.want)
			if tt.token != "" {
				assert.NotContains(t, err.Error(), tt.token)
			}
		})
	}
	_, err = a.Verify(genuine, DefaultAudience)
	require.NoError(t, err)
}

func TestIssue(t *testing.T) {
	a := newAuthority(t)
	a.Register(Principal{Kind: User, Name: "ada@example.com"})

	t.Run("a life partly over", func(t *testing.T) {
		began := time.Now()
		token, err := a.Issue("ada@example.com", WithIssuedAt(time.Now().Add(-69*time.Minute)))
		require.NoError(t, err)
		claims, err := a.Verify(token, DefaultAudience)
		require.NoError(t, err)
		assert.Equal(t, 75*time.Minute, claims.ExpiresAt.Sub(claims.IssuedAt))
		assertSince(t, began, 6*time.Minute, claims.ExpiresAt)
	})
	t.Run("another audience", func(t *testing.T) {
		token, err := a.Issue("ada@example.com", WithAudience("https://token.postgres.cosmos.azure.com"))
		require.NoError(t, err)
		_, err = a.Verify(token, "https://token.postgres.cosmos.azure.com")
		require.NoError(t, err)
	})
	t.Run("of a given size", func(t *testing.T) {
		for _, size := range []int{2047, 2048, 2049, 2050, 7000} {
			token, err := a.Issue("ada@example.com", WithSize(size))
			require.NoError(t, err)
			assert.Contains(t, []int{size, size - 1}, len(token))
			_, err = a.Verify(token, DefaultAudience)
			require.NoError(t, err)
		}
	})
	t.Run("smaller than its claims", func(t *testing.T) {
		_, err := a.Issue("ada@example.com", WithSize(100))
		require.ErrorContains(t, err, "more than WithSize allows")
	})
	t.Run("for nobody", func(t *testing.T) {
		_, err := a.Issue("eve@example.com")
		require.ErrorContains(t, err, `no principal is named "eve@example.com"`)
	})
	t.Run("without a request", func(t *testing.T) { assert.Zero(t, a.Requests()) })
}

func TestKeysVerifyTheTokens(t *testing.T) {
	a := newAuthority(t)
	a.Register(Principal{Name: "orders-api"})
	token, err := a.Issue("orders-api")
	require.NoError(t, err)

	response, err := a.client.Get(a.URL() + a.TenantID() + "/discovery/v2.0/keys")
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	var set struct {
		Keys []struct{ Kid, N, E string }
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&set))
	require.Len(t, set.Keys, 1)

	_, err = jwt.Parse(token, func(token *jwt.Token) (any, error) {
		assert.Equal(t, set.Keys[0].Kid, token.Header["kid"])
		n, err := base64.RawURLEncoding.DecodeString(set.Keys[0].N)
		require.NoError(t, err)
		e, err := base64.RawURLEncoding.DecodeString(set.Keys[0].E)
		require.NoError(t, err)
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	})
	require.NoError(t, err)
}
