<?php
// Posts a record as mixpanel-php does, with PHP's cURL; prints the reply.
$curl = curl_init();
curl_setopt($curl, CURLOPT_URL, $argv[1] . '/engage');
curl_setopt($curl, CURLOPT_POST, 1);
curl_setopt($curl, CURLOPT_RETURNTRANSFER, 1);
curl_setopt($curl, CURLOPT_POSTFIELDS, 'data=' . base64_encode('[' . $argv[2] . ']'));
$reply = curl_exec($curl);
echo $reply === false ? curl_error($curl) : $reply;
