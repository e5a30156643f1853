# Posts a record as mixpanel-ruby does, with the client of Ruby's own library; prints the reply.
require "base64"
require "net/http"

uri = URI("#{ARGV[0]}/engage")
request = Net::HTTP::Post.new(uri.request_uri)
request.set_form_data("data" => Base64.strict_encode64(ARGV[1]), "verbose" => 1)
client = Net::HTTP.new(uri.host, uri.port)
client.use_ssl = true
print client.request(request).body
