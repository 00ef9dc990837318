package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the library's
	os.Exit(m.Run())
}

// oneClient is a database with one principal in it, whose secret is fixed so that the fuzzer can find it in the seeds.
type oneClient struct {
	id   uuid.UUID
	hash secret.Hash
	keys []store.SigningKey
}

const (
	fuzzID     = "7f1f8ae0-5a5c-4f0e-9f0b-6f0f2f3c1d2e"
	fuzzSecret = "tss_AAAAAAAAAAAA_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func (c *oneClient) Login(_ context.Context, id uuid.UUID, secretID string, _ netip.Addr,
	_ store.Throttle) (store.Login, error) {
	if id != c.id {
		return store.Login{}, nil
	}
	login := store.Login{Principal: store.Principal{ClientID: id, Permissions: []string{"orders:read"}}}
	if secretID == secret.ParseClientSecret(fuzzSecret).ID {
		login.Secret = &c.hash
	}
	return login, nil
}

func (c *oneClient) LoginFailed(context.Context, uuid.UUID, netip.Addr, string, store.Throttle) (time.Duration, error) {
	return 0, nil
}

func (c *oneClient) ClearFailures(context.Context, uuid.UUID, netip.Addr) error { return nil }

func (c *oneClient) StartFamily(context.Context, store.Actor, uuid.UUID, string, secret.RefreshToken,
	store.Lifetimes) error {
	return nil
}

func (c *oneClient) Refresh(context.Context, store.Actor, store.Exchange, store.Lifetimes) (store.Refreshed, error) {
	return store.Refreshed{}, store.ErrRefreshRefused
}

func (c *oneClient) RevokeToken(context.Context, store.Actor, uuid.UUID, secret.RefreshToken) error {
	return nil
}

func (c *oneClient) SigningKeys(context.Context) ([]store.SigningKey, time.Time, error) {
	return c.keys, time.Now(), nil
}

func (c *oneClient) AddSigningKey(_ context.Context, _ store.Actor,
	need func([]store.SigningKey, time.Time) (*store.SigningKey, error)) error {
	key, err := need(c.keys, time.Now())
	if key != nil {
		c.keys = append(c.keys, *key)
	}
	return err
}

var cheap = secret.Argon2id{MemoryKiB: 8, Iterations: 1, Parallelism: 1}

func newClient(tb testing.TB, params secret.Argon2id) (*oneClient, *secret.Hasher) {
	hasher := secret.NewHasher(params, 2)
	hash, err := hasher.Hash(context.Background(), secret.ParseClientSecret(fuzzSecret))
	if err != nil {
		tb.Fatal(err)
	}
	return &oneClient{id: uuid.MustParse(fuzzID), hash: hash}, hasher
}

func newHandler(tb testing.TB, db Store, hasher Hasher, keyStore keyring.Store) http.Handler {
	sealer, err := keyring.ParseSealer(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		tb.Fatal(err)
	}
	keys := keyring.New(keyStore, sealer, keyring.Schedule{Rotation: 24 * time.Hour, Lead: time.Minute})
	if err := keys.Maintain(context.Background()); err != nil {
		tb.Fatal(err)
	}
	config := DefaultConfig()
	config.PublicURL, config.Audiences = "https://tokens.example.com", []string{"api://tokenservice", "api://orders"}
	mux := http.NewServeMux()
	NewServer(config, db, hasher, keys, slog.New(slog.DiscardHandler)).Register(mux)
	return mux
}

// Whatever is sent to the token endpoint, the answer is the standard's: no panic, no 5xx, and tokens only for the
// secret.
func FuzzTokenEndpoint(f *testing.F) {
	db, hasher := newClient(f, cheap)
	handler := newHandler(f, db, hasher, db)
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(fuzzID+":"+fuzzSecret))
	credentials := "client_id=" + fuzzID + "&client_secret=" + fuzzSecret
	const form = "application/x-www-form-urlencoded"
	f.Add("token", "", form, basic, "grant_type=client_credentials")
	f.Add("token", "", form, "", "grant_type=client_credentials&"+credentials)
	f.Add("token", "", form, basic, "grant_type=client_credentials&"+credentials)
	f.Add("token", "", form, basic, "grant_type=client_credentials&"+credentials+"x")
	f.Add("token", "", form, basic, "grant_type=client_credentials&resource=api%3A%2F%2Forders&audience=x")
	f.Add("token", "", form, basic, "grant_type=client_credentials&resource=a&resource=b")
	f.Add("token", "", form, basic, "grant_type=client_credentials&scope=api%3A%2F%2Forders%2F.default+openid")
	f.Add("token", "", form, basic, "grant_type=refresh_token&refresh_token=tsr_x&scope=a+b")
	f.Add("token", "", form, basic, "grant_type=authorization_code&code=x&redirect_uri=y&code_verifier=z")
	f.Add("token", "", form, "", "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a.b.c")
	f.Add("token", "", form, basic,
		"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=x&subject_token_type="+
			"urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&audience=a&audience=b")
	f.Add("token", "", form, basic, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=x")
	f.Add("token", "grant_type=client_credentials&"+credentials, form, "", "")
	f.Add("token", "", "application/json", basic, `{"grant_type":"client_credentials"}`)
	f.Add("token", "", "multipart/form-data; boundary=x", basic,
		"--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--x--")
	f.Add("token", "", form+"; charset=\"\xff", basic, "grant_type=\x00&%zz;&=&&=x")
	f.Add("token", "", form, "Basic "+base64.StdEncoding.EncodeToString([]byte("%:%zz")), "grant_type=client_credentials")
	f.Add("token", "", form, "Bearer x", "grant_type=client_credentials&client_id=%00&client_secret=%ff")
	f.Add("revoke", "", form, basic, "token=tsr_x&token_type_hint=refresh_token")
	f.Add("revoke", "", form, basic, "token=a.b.c&grant_type=client_credentials")
	f.Fuzz(func(t *testing.T, endpoint, query, contentType, authorization, body string) {
		if endpoint != "revoke" {
			endpoint = "token"
		}
		r := httptest.NewRequest(http.MethodPost, "/tokenservice/oauth2/v2.0/"+endpoint, strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", authorization)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if endpoint == "revoke" && w.Code == http.StatusOK && w.Body.Len() == 0 {
			return
		}
		var answer struct {
			Error       string `json:"error"`
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("the answer is not JSON: %q", w.Body)
		}
		switch w.Code {
		case http.StatusOK:
			if answer.AccessToken == "" || r.PostForm.Get("grant_type") != "client_credentials" || secretIn(r) != fuzzSecret {
				t.Fatalf("200: %q", w.Body)
			}
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusRequestEntityTooLarge:
			known := []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
				"unsupported_grant_type", "invalid_scope", "invalid_target", "unsupported_token_type"}
			if !slices.Contains(known, answer.Error) {
				t.Fatalf("%d with the error %q", w.Code, answer.Error)
			}
			if (w.Code == http.StatusUnauthorized) != (answer.Error == "invalid_client") {
				t.Fatalf("%d with the error %q", w.Code, answer.Error)
			}
		default:
			t.Fatalf("%d: %q", w.Code, w.Body)
		}
	})
}

// secretIn is the secret that a request brings.
func secretIn(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		unescaped, _ := url.QueryUnescape(password)
		return unescaped
	}
	return r.PostForm.Get("client_secret")
}
