package early

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
)

// What people write, and mistype: of these the test makes calls.
var (
	someArguments = strings.Fields("--scope=a --scope b --scope= --scope -- x -x ---json " +
		"--format=env --format json --format=xml --json --json=true --json=0 --JSON --timeout=5m --timeout 5 --timeout=1ms " +
		"--credential=cli --credential azd,cli --client-id=00000000-1111-2222-3333-444444444444 --oidc-token-file=x " +
		"--tenant-id=55555555-1111-2222-3333-444444444444 --login-hint=ada --client-certificate=../y " +
		"--disable-instance-discovery --disable-instance-discovery=false")
	someVariables = strings.Fields("AADPOOL_SCOPE=c AADPOOL_scope=d aadpool_scope=e AADPOOL_SCOPE= " +
		"AADPOOL_CREDENTIAL=azd AADPOOL_Credential=cli AADPOOL_CLIENT-ID=x AADPOOL_LOGIN_HINT=bob " +
		"AADPOOL_TIMEOUT=1m AADPOOL_TIMEOUT=bad AADPOOL_FORMAT=pgpass AADPOOL_FORMAT=exec-credential AADPOOL_FORMAT=xml " +
		"AADPOOL_JSON=true AADPOOL_JSON=0 AADPOOL_JSON=x AADPOOL_DISABLE_INSTANCE_DISCOVERY=true " +
		"AADPOOL_DISABLE_INSTANCE_DISCOVERY=x AADPOOL_HELP=true AADPOOL_LISTEN=x " +
		"PGHOST=x.postgres.cosmos.azure.com AZURE_CLIENT_ID=y")
)

// Whatever is written on the command line and in the environment: what is answered here is what the command prints.
func TestAnswersAsTheCommandDoes(t *testing.T) {
	commandtest.ClearEnvironment(t)
	dir := commandtest.ShortDir(t)
	t.Setenv("AADPOOL_AGENT_DIR", dir)
	t.Setenv("PATH", dir)
	random, answered := rand.New(rand.NewPCG(1, 2)), 0
	for range 1000 {
		arguments, variables := someOf(random, someArguments), someOf(random, someVariables)
		t.Run(strings.Join(append(variables, arguments...), " "), func(t *testing.T) {
			for _, variable := range variables {
				name, value, _ := strings.Cut(variable, "=")
				t.Setenv(name, value)
			}
			c, ok := read(arguments)
			if !ok || !canServe(c) {
				return
			}
			serve(t, dir, c.Identity())
			text, ok := answer(arguments, time.Minute)
			if !ok {
				return
			}
			answered++
			system := invocation.System{ClientOptions: azcore.ClientOptions{Transport: noNetwork{}},
				AgentPatience: time.Minute}
			want := commandtest.RunUnchecked(t.Context(), system, append([]string{"token"}, arguments...)...)
			require.Equal(t, diag.OK, want.Status, want.Stderr)
			expiresIn := regexp.MustCompile(`"expires_in":\d+`)
			assert.Equal(t, expiresIn.ReplaceAllString(want.Stdout, ""), expiresIn.ReplaceAllString(text+"\n", ""))
		})
	}
	assert.Greater(t, answered, 100)
}

// someOf takes up to four of the words, in any order.
func someOf(random *rand.Rand, words []string) (taken []string) {
	for range random.IntN(5) {
		taken = append(taken, words[random.IntN(len(words))])
	}
	return taken
}

// noNetwork is what those find who should have asked an agent.
type noNetwork struct{}

func (noNetwork) Do(*http.Request) (*http.Response, error) { return nil, errors.New("no network") }

// canServe reports whether an agent can have been started for whom a call means.
func canServe(c *call) bool {
	flags := tokens.Flags{Credential: c.Credential, ClientID: c.ClientID, TenantID: c.TenantID, Timeout: Patience}
	return flags.Check() == nil
}

// serve is an agent whose tokens say for whom and what they are.
func serve(t *testing.T, dir, identity string) {
	l, err := agent.Listen(dir, identity)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	// One instant for all who ask: some formats print it, and two of them are compared.
	expires := time.Now().Add(time.Hour)
	go func() {
		served <- agent.Serve(ctx, l, func(_ context.Context, scope string) (agentclient.Token, error) {
			return agentclient.Token{Token: identity + ":" + scope, ExpiresOn: expires}, nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
}
