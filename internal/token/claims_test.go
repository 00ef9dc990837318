package token

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestUserNameByKindOfPrincipal(t *testing.T) {
	for _, row := range []struct {
		file, user string
		kind       Kind
		life       time.Duration
	}{
		{"user.json", "ada@contoso.example", User, 75 * time.Minute},
		{"user_v2.json", "ada@contoso.example", User, 75 * time.Minute},
		{"guest.json", "bo_fabrikam.example#EXT#@contoso.example", User, 75 * time.Minute},
		{"service_principal.json", "orders-api", ServicePrincipal, 65 * time.Minute},
		{"managed_identity_user_assigned.json", "id-orders", ManagedIdentity, 24*time.Hour + 5*time.Minute},
		{"managed_identity_system_assigned.json", "vm-orders-01", ManagedIdentity, 24*time.Hour + 5*time.Minute},
	} {
		t.Run(row.file, func(t *testing.T) {
			c := ReadClaims(azuretest.JWT(readFile(t, "testdata/claims", row.file)))
			require.NoError(t, c.Err())
			user, err := c.UserName()
			require.NoError(t, err)
			assert.Equal(t, row.user, user)
			assert.Equal(t, row.user, c.Principal())
			assert.Equal(t, row.kind, c.Kind())
			assert.Equal(t, row.life, c.Life())
			assert.Equal(t, "https://ossrdbms-aad.database.windows.net", c.Audience())
		})
	}
}

func readFile(t *testing.T, dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(text)
}

func TestTokenThatNamesNoUser(t *testing.T) {
	c := ReadClaims(azuretest.JWT(readFile(t, "testdata/claims", "unnamed.json")))
	require.NoError(t, c.Err())
	_, err := c.UserName()
	require.ErrorContains(t, err, "its claims are: appid, aud, exp, iat, idtyp, oid, ver")
	require.ErrorContains(t, err, "put user= into the DSN")
	assert.Equal(t, ServicePrincipal, c.Kind(), "as far as one can tell")
	assert.Equal(t, "appid d2a1f0c9-0b7e-4e4c-b6a8-7f9e5c3b1a02", c.Principal())
	assert.Equal(t, "https://ossrdbms-aad.database.windows.net", c.Audience())
}

func TestClaimsOfWhatIsNoJWT(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	for _, row := range []struct{ name, token string }{
		{"empty", ""},
		{"opaque", "secret-0a1b2c"},
		{"two parts", "secret.secret"},
		{"four parts", "a.secret.secret.b"},
		{"claims that are not base64url", "a.secret+/=.b"},
		{"claims that are not JSON", "a." + encode([]byte("secret")) + ".b"},
		{"claims that are not an object", "a." + encode([]byte(`["secret"]`)) + ".b"},
		{"claims that are null", "a." + encode([]byte(`null`)) + ".b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := ReadClaims(row.token)
			require.ErrorContains(t, c.Err(), "not a JWT")
			_, err := c.UserName()
			require.ErrorContains(t, err, "not a JWT")
			require.ErrorContains(t, err, "put user= into the DSN")
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestClaimsOfAnUnexpectedTypeCountAsAbsent(t *testing.T) {
	c := ReadClaims(azuretest.JWT(`{"upn": 7, "unique_name": null, "xms_mirid": "///", "app_displayname": "orders-api", "iat": "soon", "exp": 1e300, "aud": {}}`))
	require.NoError(t, c.Err())
	user, err := c.UserName()
	require.NoError(t, err)
	assert.Equal(t, "orders-api", user)
	assert.Zero(t, c.Life())
	assert.Empty(t, c.Audience())
}

func FuzzClaims(f *testing.F) {
	files, err := filepath.Glob("testdata/claims/*.json")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(azuretest.JWT(string(text)))
	}
	f.Add("")
	f.Add("..")
	f.Add(azuretest.JWT(`{"iat":-1,"exp":9e99}`))
	f.Fuzz(func(t *testing.T, token string) {
		c := ReadClaims(token)
		_, _ = c.UserName()
		_, _, _ = c.Principal(), c.Kind(), c.Audience()
		assert.GreaterOrEqual(t, c.Life(), time.Duration(0))
	})
}

func TestTimesInClaims(t *testing.T) {
	const longest = 1 << 40 // seconds since 1970, which float64 and time.Duration still hold
	for _, row := range []struct {
		name, claims string
		issued       time.Time
		life         time.Duration
	}{
		{"whole seconds", `{"iat":1700000000,"exp":1700003600}`, time.Unix(1700000000, 0), time.Hour},
		{"fractions are cut off", `{"iat":1700000000.9,"exp":1700000060.2}`, time.Unix(1700000000, 0), time.Minute},
		{"no claims", `{}`, time.Time{}, 0},
		{"the end alone", `{"exp":1700003600}`, time.Time{}, 0},
		{"the issue alone", `{"iat":1700000000}`, time.Unix(1700000000, 0), 0},
		{"the first second that counts", `{"iat":1,"exp":100}`, time.Unix(1, 0), 99 * time.Second},
		{"an end before the issue", `{"iat":1700003600,"exp":1700000000}`, time.Unix(1700003600, 0), 0},
		{"text", `{"iat":"1700000000","exp":"1700003600"}`, time.Time{}, 0},
		{"negative", `{"iat":-7,"exp":1700003600}`, time.Time{}, 0},
		{"the last second that counts", fmt.Sprintf(`{"iat":%d}`, longest), time.Unix(longest, 0), 0},
		{"far too late", fmt.Sprintf(`{"iat":%d,"exp":%d}`, longest+1, longest+2), time.Time{}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := ReadClaims(azuretest.JWT(row.claims))
			assert.Equal(t, row.issued, c.Issued())
			assert.Equal(t, row.life, c.Life())
		})
	}
}
