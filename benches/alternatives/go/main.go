// The worker that somebody would write in Go with amqp091-go and net/http: decode, createLink, reply with a confirm, ack.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type request struct {
	ID       string `json:"id"`
	Provider string `json:"provider"`
	Item     struct {
		DriveID string `json:"driveId"`
		ItemID  string `json:"itemId"`
	} `json:"item"`
	Link struct {
		Type  string `json:"type"`
		Scope string `json:"scope"`
	} `json:"link"`
}

type permission struct {
	ID   string `json:"id"`
	Link struct {
		Type   string `json:"type"`
		Scope  string `json:"scope"`
		WebURL string `json:"webUrl"`
	} `json:"link"`
}

type reply struct {
	ID          string           `json:"id"`
	Provider    string           `json:"provider"`
	Status      string           `json:"status"`
	Item        any              `json:"item"`
	Link        map[string]any   `json:"link"`
	Warnings    []map[string]any `json:"warnings"`
	Error       map[string]any   `json:"error"`
	Attempts    int              `json:"attempts"`
	ElapsedMs   int64            `json:"elapsedMs"`
	CompletedAt string           `json:"completedAt"`
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func share(client *http.Client, base string, r *request) (reply, error) {
	began := time.Now()
	body, err := json.Marshal(r.Link)
	if err != nil {
		return reply{}, err
	}
	address := fmt.Sprintf("%s/drives/%s/items/%s/createLink", base, url.PathEscape(r.Item.DriveID), url.PathEscape(r.Item.ItemID))
	out := reply{ID: r.ID, Provider: r.Provider, Item: r.Item, Warnings: []map[string]any{}}
	for {
		out.Attempts++
		call, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return reply{}, err
		}
		call.Header.Set("Authorization", "Bearer bench")
		call.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(call)
		if err != nil {
			return reply{}, err
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return reply{}, err
		}
		if answer.StatusCode == http.StatusTooManyRequests {
			seconds, err := strconv.ParseFloat(answer.Header.Get("Retry-After"), 64)
			if err != nil {
				seconds = 1
			}
			time.Sleep(time.Duration(seconds * float64(time.Second)))
			continue
		}
		var granted permission
		if err := json.Unmarshal(text, &granted); err != nil {
			return reply{}, err
		}
		switch answer.StatusCode {
		case http.StatusCreated:
			out.Status = "created"
		case http.StatusOK:
			out.Status = "reused"
		default:
			out.Status = "failed"
			out.Error = map[string]any{"kind": "badResponse", "httpStatus": answer.StatusCode}
		}
		if out.Error == nil {
			out.Link = map[string]any{
				"id": granted.ID, "url": granted.Link.WebURL, "html": nil,
				"granted": map[string]any{"type": granted.Link.Type, "scope": granted.Link.Scope},
			}
		}
		out.ElapsedMs = time.Since(began).Milliseconds()
		out.CompletedAt = time.Now().UTC().Format(time.RFC3339)
		return out, nil
	}
}

func main() {
	prefetch, err := strconv.Atoi(os.Getenv("PREFETCH"))
	must(err)
	consuming, err := amqp.Dial(os.Getenv("AMQP_URL"))
	must(err)
	publishing, err := amqp.Dial(os.Getenv("AMQP_URL"))
	must(err)
	in, err := consuming.Channel()
	must(err)
	must(in.Qos(prefetch, 0, false))
	out, err := publishing.Channel()
	must(err)
	must(out.Confirm(false))
	deliveries, err := in.Consume(os.Getenv("REQUEST_QUEUE"), "", false, false, false, false, nil)
	must(err)
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConns: prefetch, MaxIdleConnsPerHost: prefetch},
		Timeout:   time.Minute,
	}
	base, replies := os.Getenv("BASE_URL"), os.Getenv("REPLY_QUEUE")
	var workers sync.WaitGroup
	for i := 0; i < prefetch; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for delivery := range deliveries {
				var asked request
				must(json.Unmarshal(delivery.Body, &asked))
				answer, err := share(client, base, &asked)
				must(err)
				body, err := json.Marshal(answer)
				must(err)
				confirm, err := out.PublishWithDeferredConfirm("", replies, true, false, amqp.Publishing{
					ContentType: "application/json", DeliveryMode: amqp.Persistent,
					CorrelationId: delivery.CorrelationId, Body: body,
				})
				must(err)
				if !confirm.Wait() {
					log.Fatal("not confirmed")
				}
				must(delivery.Ack(false))
			}
		}()
	}
	workers.Wait()
}
