package proxy

import "github.com/coreos/go-systemd/v22/daemon"

// Notify tells systemd how the service is doing, READY=1 for example, if systemd has started this process and wants to
// know: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func Notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}
