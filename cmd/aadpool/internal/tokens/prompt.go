package tokens

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// ShowDeviceCode prints where to sign in and the code to enter there; on a terminal the page is a link:
// https://github.com/Alhadis/OSC8-Adoption
func ShowDeviceCode(w io.Writer, screen terminal.Screen) func(context.Context, azidentity.DeviceCodeMessage) error {
	return func(_ context.Context, m azidentity.DeviceCodeMessage) error {
		page := m.VerificationURL
		if screen.Live {
			page = "\x1b]8;;" + page + "\x1b\\" + page + "\x1b]8;;\x1b\\"
		}
		_, err := fmt.Fprintf(w, "To sign in, open %s in a browser and enter the code %s\n", page, m.UserCode)
		return err
	}
}

// showDeviceCode is for commands that ask whoever runs them in the middle of something else.
func showDeviceCode(ctx context.Context, m azidentity.DeviceCodeMessage) error {
	var screen terminal.Screen
	if terminal.Is(os.Stderr) {
		screen = terminal.ScreenOf(os.Stderr)
	}
	return ShowDeviceCode(os.Stderr, screen)(ctx, m)
}
