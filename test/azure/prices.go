package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// priceList is Azure's, which needs no login:
// https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices.
const priceList = "https://prices.azure.com/api/retail/prices"

// pricePage is for people, where the list cannot be read.
const pricePage = "https://azure.microsoft.com/pricing/details/postgresql/flexible-server/"

// The server is a pair: the standby is billed like the first.
const (
	servers, cores, gigabytes = 2, 2, 32
	hoursOfMonth              = 730 // that a month has in Azure's prices
)

// rates are pay-as-you-go prices in US dollars, without tax.
type rates struct {
	hour  float64 // of one server
	month float64 // of a gigabyte
}

// cost is that of both servers for a time.
func (r rates) cost(life time.Duration) float64 {
	return servers * life.Hours() * (r.hour + gigabytes*r.month/hoursOfMonth)
}

// published are the rates that somebody has read in the list, for a machine that cannot: in westus2, on publishedOn.
var published = rates{hour: 0.178, month: 0.115}

const publishedOn = "2026-09-19"

// price is an entry of the list.
type price struct {
	ProductName, SkuName, MeterName, UnitOfMeasure string
	RetailPrice                                    float64
}

// readRates reads those of a region from the list, page by page.
func readRates(ctx context.Context, list, region string) (r rates, err error) {
	filter := fmt.Sprintf("serviceName eq 'Azure Database for PostgreSQL' and armRegionName eq '%s' and "+
		"priceType eq 'Consumption'", region)
	next := list + "?" + url.Values{"$filter": {filter}}.Encode()
	for next != "" {
		var page struct {
			Items        []price
			NextPageLink string
		}
		if err := getJSON(ctx, next, &page); err != nil {
			return r, err
		}
		for _, p := range page.Items {
			r.add(p)
		}
		next = page.NextPageLink
	}
	if r.hour == 0 || r.month == 0 {
		return r, fmt.Errorf("it has no prices of General Purpose Ddsv5 and its storage in %s", region)
	}
	return r, nil
}

// add takes a price if it is the server's or its storage's. Names in the list have spaces of several kinds, and a price
// may be that of a core.
func (r *rates) add(p price) {
	product := strings.Join(strings.Fields(p.ProductName), " ")
	switch {
	case strings.Contains(product, "PostgreSQL Flexible Server Storage") && p.MeterName == "Storage Data Stored" &&
		p.UnitOfMeasure == "1 GB/Month":
		r.month = p.RetailPrice
	case !strings.Contains(product, "Flexible Server General Purpose") || !strings.Contains(product, "Ddsv5") ||
		p.UnitOfMeasure != "1 Hour":
	case p.SkuName == fmt.Sprintf("%d vCore", cores):
		r.hour = p.RetailPrice
	case (p.SkuName == "vCore" || p.SkuName == "1 vCore") && r.hour == 0:
		r.hour = cores * p.RetailPrice
	}
}

func getJSON(ctx context.Context, address string, v any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return json.NewDecoder(response.Body).Decode(v)
}

// quote says what a run costs, by the list as of today, or as of the day on which somebody has read it.
func quote(ctx context.Context, list, region string, life time.Duration, today time.Time) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := readRates(ctx, list, region)
	if err != nil {
		return fmt.Sprintf("The price list (%s) could not be read: %v.\n"+
			"A published quote for westus2 of %s would come to\n%s\nToday's prices of %s: %s",
			list, err, publishedOn, published.sum(life), region, pricePage)
	}
	return fmt.Sprintf("By the price list (%s) of %s that is\n%s", list, today.Format(time.DateOnly), r.sum(life))
}

func (r rates) sum(life time.Duration) string {
	return fmt.Sprintf("%.2f USD: %d servers x %.1f h x (%.3f USD an hour + %d GB x %.3f USD a month / %d h),\n"+
		"without tax, and the cents of a private endpoint.",
		r.cost(life), servers, life.Hours(), r.hour, gigabytes, r.month, hoursOfMonth)
}
