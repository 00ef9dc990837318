package main

import (
	"context"
	"fmt"
)

// tryByHand prints the commands with which a person can try the service, and with keep leaves it running until ctx
// ends.
func (d *demo) tryByHand(ctx context.Context, keep bool) {
	if ctx.Err() != nil {
		return
	}
	d.display.Print("\n" + d.commandsFor(d.replicas[0].URL, d.replicas[1].URL))
	if !keep {
		d.display.Print("\nThe service ends now. KEEP=1 make demo leaves it running for these commands.")
		return
	}
	d.display.Print("\nThe service is running, until Ctrl-C.")
	<-ctx.Done()
}

// commandsFor are for a POSIX shell. The secret in them is that of a database that ends with the demo.
func (d *demo) commandsFor(url, other string) string {
	return fmt.Sprintf(`Try it by hand (needs curl and jq):

  SERVICE=%[1]s
  ID=%[2]s
  SECRET=%[3]s
  get() { curl -s --cacert %[4]s "$@"; }

  # Log in, by HTTP Basic. -d client_id=… -d client_secret=… works as well.
  get -u "$ID:$SECRET" -d grant_type=client_credentials "$SERVICE/tokenservice/oauth2/v2.0/token" | tee tokens | jq .
  ACCESS=$(jq -r .access_token tokens) REFRESH=$(jq -r .refresh_token tokens)

  # Use the access token.
  get -H "Authorization: Bearer $ACCESS" "$SERVICE/v1/me" | jq .
  get -H "Authorization: Bearer $ACCESS" "$SERVICE/v1/principals" | jq .
  get -H "Authorization: Bearer $ACCESS" --json '{"name":"orders","permissions":["orders:read"]}' \
    "$SERVICE/v1/principals" | jq .

  # Use a refresh token twice at once: both answers have the same next one. Ten seconds later that is reuse: it ends the
  # token and all that came from it.
  refresh() {
    get -u "$ID:$SECRET" -d grant_type=refresh_token -d "refresh_token=$REFRESH" \
      "$SERVICE/tokenservice/oauth2/v2.0/token"
  }
  refresh | jq .; refresh | jq .
  sleep 11; refresh | jq .

  # What clients find out by themselves. %[5]s is the other replica: its answers are the same.
  get "$SERVICE/tokenservice/v2.0/.well-known/openid-configuration" | jq .
  get "$SERVICE/tokenservice/discovery/v2.0/keys" | jq .
  rm tokens`, url, d.visitor.ClientID, d.visitor.Secret.Reveal(), d.certificateFile(), other)
}
