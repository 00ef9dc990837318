package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const storageItem = `{"productName": "Az DB for PostgreSQL Flexible Server Storage", "skuName": "Storage",
	"meterName": "Storage Data Stored", "unitOfMeasure": "1 GB/Month", "retailPrice": 0.1}`

func computeItem(product, sku string, dollars float64) string {
	return fmt.Sprintf(`{"productName": "Azure Database for PostgreSQL Flexible Server %s Series Compute", "skuName": %q,
		"meterName": "vCore", "unitOfMeasure": "1 Hour", "retailPrice": %g}`, product, sku, dollars)
}

func TestRatesAreReadFromThePriceList(t *testing.T) {
	const ultra = `{"productName": "Az DB for PostgreSQL Flexible Server Storage", "skuName": "Ultra",
		"meterName": "Ultra Disk Storage Data Stored", "unitOfMeasure": "1 GB/Month", "retailPrice": 9}`
	for _, row := range []struct {
		name   string
		pages  []string
		want   rates
		failed string
	}{
		{"a price of the pair of cores",
			[]string{computeItem("General Purpose Ddsv5", "2 vCore", 0.2) + "," + storageItem}, rates{0.2, 0.1}, ""},
		{"a price of one core",
			[]string{computeItem("General Purpose Ddsv5", "vCore", 0.1) + "," + storageItem}, rates{0.2, 0.1}, ""},
		{"that of the pair counts", []string{computeItem("General Purpose Ddsv5", "2 vCore", 0.2) + "," +
			computeItem("General Purpose Ddsv5", "vCore", 9) + "," + storageItem}, rates{0.2, 0.1}, ""},
		{"spaces that do not break", []string{
			computeItem("General Purpose\u00a0Ddsv5\u00a0", "2 vCore", 0.2) + "," + storageItem}, rates{0.2, 0.1}, ""},
		{"others are left out", []string{computeItem("General Purpose Dadsv5", "2 vCore", 9) + "," +
			computeItem("Memory Optimized Edsv5", "2 vCore", 9) + "," +
			computeItem("General Purpose Ddsv5", "4 vCore", 9) + "," + ultra,
			computeItem("General Purpose Ddsv5", "2 vCore", 0.2) + "," + storageItem}, rates{0.2, 0.1}, ""},
		{"a region without such servers", []string{storageItem}, rates{}, "no prices of General Purpose Ddsv5"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := httptest.NewServer(nil)
			t.Cleanup(server.Close)
			asked := 0
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked == 0 {
					assert.Equal(t, "serviceName eq 'Azure Database for PostgreSQL' and armRegionName eq 'westeurope' and "+
						"priceType eq 'Consumption'", r.FormValue("$filter"))
				}
				next := "null"
				if asked+1 < len(row.pages) {
					next = `"` + server.URL + `/?$skip=100"`
				}
				fmt.Fprintf(w, `{"Items": [%s], "NextPageLink": %s}`, row.pages[asked], next)
				asked++
			})
			r, err := readRates(t.Context(), server.URL, "westeurope")
			if row.failed != "" {
				require.ErrorContains(t, err, row.failed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.want, r)
		})
	}
}

func TestQuoteSaysWhatARunCostsAndAsOfWhen(t *testing.T) {
	today := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Items": [%s, %s]}`, computeItem("General Purpose Ddsv5", "2 vCore", 0.2), storageItem)
	}))
	t.Cleanup(list.Close)
	said := quote(t.Context(), list.URL, "westeurope", 9*time.Hour, today)
	assert.Contains(t, said, "of 2026-12-01")
	assert.Contains(t, said, "3.68 USD: 2 servers x 9.0 h x (0.200 USD an hour + 32 GB x 0.100 USD a month / 730 h)")

	down := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(down.Close)
	said = quote(t.Context(), down.URL, "westeurope", time.Hour, today)
	assert.Contains(t, said, "could not be read: 404 Not Found")
	assert.Contains(t, said, "westus2 of 2026-09-19 would come to\n0.37 USD")
	assert.Contains(t, said, pricePage)
}
